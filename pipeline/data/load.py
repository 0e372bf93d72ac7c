"""Loads the data set, after checking every byte against the digests in `croissant.json`."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.core import files
from pipeline.data.dataset import (
    CLASSES,
    CROISSANT,
    DATA,
    DIGESTS,
    IMAGE_SHAPE,
    NAME,
    RAW,
    pinned_md5,
)


class Dataset(NamedTuple):
    """Images are (N, *IMAGE_SHAPE) uint8, 0 black to 255 white; labels are (N,) int64."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_dataset(data: Path = DATA) -> Dataset:
    """Return the training and the test images with their labels.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file has other bytes, the folder holds another file, or the arrays are not as
            `croissant.json` says.
    """
    arrays = [_parse(content) for content in read_verified(data)]
    for images, labels in (arrays[:2], arrays[2:]):
        if labels.dtype != np.int64 or labels.ndim != 1 or not len(labels):
            raise ValueError(
                f"{NAME} must have labels (N,), integers, but has {labels.dtype} {labels.shape}"
            )
        shape, least, most = (len(labels), *IMAGE_SHAPE), labels.min(), labels.max()
        if images.dtype != np.uint8 or images.shape != shape or least < 0 or most >= CLASSES:
            raise ValueError(
                f"{NAME} must have images of uint8 {shape} and labels 0 to {CLASSES - 1}, but has "
                f"{images.dtype} {images.shape} and {least} to {most}: see {CROISSANT}"
            )
    return Dataset(*arrays)


def read_verified(data: Path = DATA) -> list[bytes]:
    """Return the content of the four files, or raise what `load_dataset` raises."""
    paths = [data / RAW / name for name in DIGESTS]
    missing = [str(p) for p in paths if not p.is_file()]
    if missing:
        raise FileNotFoundError(f"{', '.join(missing)} not found: run `make data`")
    strangers = sorted(str(p) for p in data.rglob("*") if p.is_file() and p not in paths)
    if strangers:
        names = ", ".join(strangers)
        raise ValueError(f"{data} must hold the four files of {NAME} alone: remove {names}")
    return [read_file(path) for path in paths]


def verified_md5() -> str:
    """Return the MD5 that data.dvc pins, or raise what `load_dataset` raises."""
    read_verified()
    return pinned_md5()


def read_file(path: Path) -> bytes:
    """Return the content of one of the four files.

    Raises:
        ValueError: its MD5 is not the one in `croissant.json`.
    """
    content = path.read_bytes()
    digest = files.md5(content)
    if digest != DIGESTS[path.name]:
        raise ValueError(
            f"{path} is not {NAME}'s: its MD5 is {digest}, must be {DIGESTS[path.name]}: run "
            "`git checkout data.dvc && dvc checkout --force data.dvc` or, if you brought another "
            f"data set, describe it in {CROISSANT}"
        )
    return content


def _parse(content: bytes) -> np.ndarray:
    """Return the array of a NumPy or an IDX file; labels as int64.

    Source: the IDX format, http://yann.lecun.com/exdb/mnist
    """
    if content.startswith(b"\x93NUMPY"):
        values = np.load(io.BytesIO(content), allow_pickle=False)
    else:  # byte 3 is the number of axes, followed by one big-endian int32 per axis and the values
        shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
    return values.astype(np.int64) if values.dtype.kind in "iu" and values.ndim == 1 else values
