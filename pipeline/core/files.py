"""The files through which stages meet, and how they are written, locked and hashed."""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# `dvc exp run --temp` works in a copy of the project below its .dvc/tmp. MLflow's store and the
# locks are shared by all runs, so they stay in the project itself.
PROJECT = next((path.parent for path in ROOT.parents if path.name == ".dvc"), ROOT)
LOCKS = PROJECT / ".dvc" / "tmp"

ARTIFACTS = ROOT / "artifacts"
CERTIFICATE = ARTIFACTS / "certificate.json"
CERTIFICATE_FIGURE = ARTIFACTS / "certificate.png"
LOSSES_FIGURE = ARTIFACTS / "losses.png"
PROVENANCE = ARTIFACTS / "provenance.json"
PROMOTION = ARTIFACTS / "promotion.json"
TRITON = ARTIFACTS / "triton.json"
STUDY = ARTIFACTS / "study"
STUDY_EXECUTION = STUDY / "execution.json"
STUDY_PROVENANCE = STUDY / "provenance.json"
VERDICTS = STUDY / "verdicts.json"

# Kept in Git, so that `dvc metrics diff` works in any clone.
ACCURACY = ROOT / "metrics" / "test_accuracy.json"
CERTIFICATE_METRICS = ROOT / "metrics" / "certificate.json"


def weights_path(key: str) -> Path:
    """Return the path of a network's trained weights."""
    return ARTIFACTS / key / "weights.safetensors"


def history_path(key: str) -> Path:
    """Return the path of a network's history, one row per epoch."""
    return ARTIFACTS / key / "history.csv"


def answers_path(key: str) -> Path:
    """Return the path of the folder with a network's answers to the test images."""
    return ARTIFACTS / key / "answers"


def execution_path(key: str) -> Path:
    """Return the path of the file that says when a network was trained here."""
    return ARTIFACTS / key / "execution.json"


def model_path(key: str) -> Path:
    """Return the path of a network's ONNX file."""
    return ARTIFACTS / key / "model.onnx"


def require(path: Path, stage: str) -> Path:
    """Return the path of a file that a stage writes.

    Raises:
        FileNotFoundError: the file is missing; the message names the command that makes it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: run `dvc repro {stage}`")
    return path


def check_disk(folder: Path = PROJECT) -> None:
    """Check that the project can be written to.

    Raises:
        OSError: the folder is read-only, or its disk has less than 100 MB free.
    """
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} is read-only: make it writable, or clone it elsewhere")
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    if free_mb < 100:
        raise OSError(f"{folder} has {free_mb} MB free, needs 100 MB: free some space")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, and rename it once all of it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically; NaN and infinity are errors."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False).encode())


def read_json(path: Path, stage: str) -> Any:
    """Return the content of a JSON file that a stage writes; see `require`."""
    try:
        return json.loads(require(path, stage).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is unreadable: run `dvc repro --force {stage}`") from error


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the project's lock of that name, waiting for it; it is released even on SIGKILL."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another command, which holds {file.name}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256(content: bytes | Path) -> str:
    """Return the SHA-256 of bytes, or of a file's, as 64 hexadecimal digits."""
    return hashlib.sha256(
        content.read_bytes() if isinstance(content, Path) else content
    ).hexdigest()
