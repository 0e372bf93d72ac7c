"""What the data set is: `croissant.json` describes it, and the pixel scaling is defined here."""

import json
import math
from pathlib import Path
from typing import Any

from pipeline.core import files

DATA = files.ROOT / "data"
CROISSANT = Path(__file__).with_name("croissant.json")
ABOUT: dict[str, Any] = json.loads(CROISSANT.read_bytes())
_FILES = ABOUT["distribution"]  # training images, training labels, test images, test labels
_RECORDS = {records["@id"]: records for records in ABOUT["recordSet"]}

NAME: str = ABOUT["name"]
RAW = Path(_FILES[0]["contentUrl"]).parent.relative_to(DATA.name)  # torchvision's folder
DIGESTS: dict[str, str] = {file["name"]: file["md5"] for file in _FILES}
# (height, width) or (channels, height, width)
IMAGE_SHAPE = tuple(map(int, _RECORDS["training-images"]["field"][0]["arrayShape"].split(",")))
_CLASSES = {
    record["classes/label"]: record["classes/name"] for record in _RECORDS["classes"]["data"]
}
CLASS_NAMES: list[str] = [_CLASSES[label] for label in sorted(_CLASSES)]
CLASSES = len(CLASS_NAMES)


def count_images(file: dict[str, str], shape: tuple[int, ...] = IMAGE_SHAPE) -> int:
    """Return how many images a file has: after the header of NumPy or IDX, a byte per pixel."""
    header = 128 if file["name"].endswith(".npy") else 8 + 4 * len(shape)
    return (int(file["contentSize"]) - header) // math.prod(shape)


IMAGES = {"training": count_images(_FILES[0]), "test": count_images(_FILES[2])}

# A network sees x = SCALE * pixel + SHIFT, in [-1, 1].
SCALE, SHIFT = 2 / 255, -1.0


def pinned_md5() -> str:
    """Return the MD5 that data.dvc pins: DVC's digest of a folder that holds these files."""
    listing = [{"md5": md5, "relpath": str(RAW / name)} for name, md5 in sorted(DIGESTS.items())]
    text = json.dumps(listing, sort_keys=True).encode()
    return files.md5(text) + ".dir"
