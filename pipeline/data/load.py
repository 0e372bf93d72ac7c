"""Loads the data set, after checking every byte against the digests in `dataset`."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core import files
from pipeline.data.dataset import DATA, DIGESTS, NAME, RAW, pinned_md5

RESTORE = "run `git checkout data.dvc && dvc checkout data.dvc`"


class Dataset(NamedTuple):
    """Images are (N, 28, 28) uint8, 0 background to 255 ink; labels are (N,) int64, 0 to 9."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_dataset(data: Path = DATA) -> Dataset:
    """Return the 60,000 training and 10,000 test images with their labels.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file has other bytes, the folder holds another file, or data.dvc pins others.
    """
    return Dataset(*(_parse_idx(content) for content in read_verified(data)))


def read_verified(data: Path = DATA) -> list[bytes]:
    """Return the content of the four files, or raise what `load_dataset` raises."""
    pin = _read_pin(files.ROOT / "data.dvc")
    if pin != pinned_md5():  # `dvc repro` pins whatever it finds in data/
        raise ValueError(
            f"data.dvc pins {pin}, must pin {pinned_md5()}: {RESTORE}, or `dvc add data` if you "
            "brought another data set"
        )
    paths = [data / RAW / name for name in DIGESTS]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{', '.join(missing)} not found: run `make data`")
    strangers = sorted({path for path in data.rglob("*") if path.is_file()} - set(paths))
    if strangers:
        names = ", ".join(str(path) for path in strangers)
        raise ValueError(f"{data} must hold the four files of {NAME} alone: remove {names}")
    return [read_file(path) for path in paths]


def verified_md5() -> str:
    """Return the MD5 that data.dvc pins, or raise what `load_dataset` raises."""
    read_verified()
    return pinned_md5()


def _read_pin(path: Path) -> str:
    try:
        return YAML(typ="safe").load(path)["outs"][0]["md5"]
    except (YAMLError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is unreadable: {RESTORE}") from error


def read_file(path: Path) -> bytes:
    """Return the content of one of the four files.

    Raises:
        ValueError: its MD5 is not the one in `dataset`.
    """
    content = path.read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != DIGESTS[path.name]:
        raise ValueError(
            f"{path} is not {NAME}'s: its MD5 is {digest}, must be {DIGESTS[path.name]}: {RESTORE}"
        )
    return content


def _parse_idx(content: bytes) -> np.ndarray:
    # Source: the IDX format, http://yann.lecun.com/exdb/mnist: byte 3 is the number of axes,
    # followed by one big-endian int32 per axis and the values.
    axes = content[3]
    shape = np.frombuffer(content, ">i4", count=axes, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    return values if axes == 3 else values.astype(np.int64)
