"""Where stages meet: the files under artifacts/, each written whole or not at all."""

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# `dvc exp run --temp` works in a copy of the project below its .dvc/tmp; what all runs share
# (the data, MLflow's store) lies in the project itself.
PROJECT = next((path.parent for path in ROOT.parents if path.name == ".dvc"), ROOT)

ARTIFACTS = ROOT / "artifacts"
KEYS = ("simple_mlp", "batchnorm_mlp")  # as in models.NETWORKS, without importing torch

MODEL = ARTIFACTS / "batchnorm_mlp" / "model.onnx"
CERTIFICATE = ARTIFACTS / "certificate.json"
CERTIFICATE_PICTURE = ARTIFACTS / "certificate.png"
METRICS = ARTIFACTS / "metrics.json"
LOSSES = ARTIFACTS / "losses.png"
PROVENANCE = ARTIFACTS / "provenance.json"
PROMOTION = ARTIFACTS / "promotion.json"
STUDY = ARTIFACTS / "study"
STUDY_PROVENANCE = STUDY / "provenance.json"
VERDICTS = STUDY / "verdicts.json"


def weights_path(key: str) -> Path:
    """Return where the network's trained weights lie."""
    return ARTIFACTS / key / "weights.safetensors"


def history_path(key: str) -> Path:
    """Return where the network's epochs lie, one row each."""
    return ARTIFACTS / key / "history.csv"


def require(path: Path, stage: str) -> Path:
    """Return the path of a file that `stage` makes.

    Raises:
        FileNotFoundError: it is not there; the message says which command makes it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: run `dvc repro {stage}`")
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under its final name only once all of it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Wait until no other process is inside; the system lets go if this one is killed."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another command, which holds {lock}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256(path: Path) -> str:
    """Return the file's SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
