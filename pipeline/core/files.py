"""The files through which stages meet, and how they are written, locked and hashed."""

import fcntl
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from configparser import RawConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
# `dvc exp run --temp` works in a copy of the project below its .dvc/tmp. MLflow's store and the
# locks are shared by all runs, so they stay in the project itself.
PROJECT = next((path.parent for path in ROOT.parents if path.name == ".dvc"), ROOT)
LOCKS = PROJECT / ".dvc" / "tmp"

# The output of a stage is artifacts/<stage>/, which DVC hashes. What must not change a hash lies
# outside these folders: the last verdict and adapted model, and the records, which hold times.
ARTIFACTS = ROOT / "artifacts"
HISTORY = ARTIFACTS / "train" / "history.csv"
VALIDATION = ARTIFACTS / "train" / "validation.csv"
PREDICTIONS = ARTIFACTS / "train" / "predictions.csv"
LOSSES_FIGURE = ARTIFACTS / "train" / "losses.png"
CERTIFICATE = ARTIFACTS / "certify" / "certificate.json"
CERTIFICATE_FIGURE = ARTIFACTS / "certify" / "certificate.png"
STUDY = ARTIFACTS / "study"
VERDICTS = STUDY / "verdicts.json"
PROMOTION = ARTIFACTS / "promotion.json"
ADAPTED_MODEL = ARTIFACTS / "adapt" / "model.onnx"

# Kept in Git, so that `dvc metrics diff` works in any clone.
PARAMETERS = ROOT / "metrics" / "parameters.json"
ACCURACY = ROOT / "metrics" / "test_accuracy.json"
CERTIFICATE_METRICS = ROOT / "metrics" / "certificate.json"


def weights_path(key: str) -> Path:
    """Return the path of a network's trained weights."""
    return ARTIFACTS / "train" / f"{key}.safetensors"


def partial_path(key: str, ending: str) -> Path:
    """Return the path of a file of a network's training for as long as others are not finished."""
    return ARTIFACTS / "partial" / f"{key}.{ending}"


def confusion_path(key: str) -> Path:
    """Return the path of the picture of a network's confusion matrix."""
    return ARTIFACTS / "train" / f"{key}_confusion.png"


def model_path(key: str) -> Path:
    """Return the path of a network's ONNX file."""
    return ARTIFACTS / "export" / f"{key}.onnx"


def provenance_path(stage: str) -> Path:
    """Return the path of the provenance that `train` or `study` writes."""
    return ARTIFACTS / stage / "provenance.json"


def record_path(key: str) -> Path:
    """Return the path of the record of a network's training, or of the study."""
    return ARTIFACTS / "records" / f"{key}.json"


def dvc_cache() -> Path:
    """Return the folder of DVC's cache."""
    config = RawConfigParser()
    config.read([ROOT / ".dvc" / name for name in ("config", "config.local")])
    return ROOT / ".dvc" / config.get("cache", "dir", fallback="cache")


def repro(stage: str, option: str = "") -> str:
    """Return the command that runs a stage."""
    return f"dvc repro {option}{'study/dvc.yaml' if stage == 'study' else stage}"


def require(path: Path, stage: str) -> Path:
    """Return the path of a file that a stage writes.

    Raises:
        FileNotFoundError: the file is missing; the message names the command that makes it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: run `{repro(stage)}`")
    return path


def unreadable(path: Path, stage: str) -> ValueError:
    """Return the error for a file that does not hold what its stage wrote."""
    return ValueError(f"{path} is unreadable: run `{repro(stage, '--force ')}`")


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


def write_png(path: Path, figure: "Figure") -> None:
    """Write a matplotlib figure atomically."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    write_atomically(path, png.getvalue())


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically; NaN and infinity are errors."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False).encode())


def read_json(path: Path, stage: str) -> Any:
    """Return the content of a JSON file that a stage writes; see `require`."""
    try:
        return json.loads(require(path, stage).read_bytes())
    except ValueError as error:
        raise unreadable(path, stage) from error


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


def md5(content: bytes) -> str:
    """Return the MD5 of bytes, which is what DVC goes by, as 32 hexadecimal digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def sha256(content: bytes | Path) -> str:
    """Return the SHA-256 of bytes, or of a file's, as 64 hexadecimal digits."""
    content = content.read_bytes() if isinstance(content, Path) else content
    return hashlib.sha256(content).hexdigest()
