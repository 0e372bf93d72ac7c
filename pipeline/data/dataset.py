"""What the data set is: its files and their digests, shape, classes and pixel scaling."""

import hashlib
import json
from pathlib import Path

from pipeline.core import files

NAME = "MNIST"
DATA = files.ROOT / "data"
RAW = Path("MNIST") / "raw"  # where torchvision puts the files

# MD5 of the uncompressed files. Source: LeCun, Cortes and Burges, "The MNIST database of
# handwritten digits", 1998, as torchvision.datasets.MNIST distributes it.
DIGESTS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

IMAGE_SHAPE = (28, 28)
CLASSES = 10
IMAGES = {"training": 60_000, "test": 10_000}

# A network sees x = SCALE * pixel + SHIFT, in [-1, 1].
SCALE, SHIFT = 2 / 255, -1.0


def pinned_md5() -> str:
    """Return the MD5 that data.dvc must pin: DVC's digest of a folder that holds these files."""
    listing = [{"md5": md5, "relpath": str(RAW / name)} for name, md5 in DIGESTS.items()]
    listing.sort(key=lambda entry: entry["relpath"])
    text = json.dumps(listing, sort_keys=True).encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest() + ".dir"
