"""Resolves --model to files: paths, or models in MLflow's registry."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
EXPORTED = "artifacts/export/*.onnx"  # written by `dvc repro export`, below the project root
NAMED = re.compile(r"(?:([\w.-]+)=)?(.*)")
DOWNLOAD_S = 12.0  # MLflow alone would retry for minutes
# An abandoned download ends soon, and no progress bar goes to the log.
MLFLOW_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class Source(NamedTuple):
    """Where a model comes from; name: what to call it, or None for the name in the file."""

    where: str
    name: str | None = None


def read_source(model: str) -> Source:
    """Return the source that a value of --model names: WHERE or NAME=WHERE."""
    name, where = NAMED.fullmatch(model).groups()  # type: ignore[union-attr]
    return Source(where, name)


def exported() -> list[Source]:
    """Return the project's exported models.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [Source(str(path)) for path in sorted(PROJECT.glob(EXPORTED))]
    if not found:
        raise FileNotFoundError(f"{PROJECT / EXPORTED} not found: run `dvc repro export`")
    return found


@contextmanager
def resolve(where: str) -> Iterator[Path]:
    """Yield the path of an ONNX file, which is downloaded for the block if it is in the registry.

    where: a path, or models:/NAME@ALIAS or models:/NAME/VERSION in the registry at
        MLFLOW_TRACKING_URI.

    Raises:
        TimeoutError: MLflow does not answer.
        ValueError: the registry does not have the model or has other than one ONNX file for it.
    """
    if where.startswith("models:/"):
        with TemporaryDirectory(prefix="serve-model-") as folder:
            yield download(where, folder)
    else:
        yield Path(where)


def download(model: str, folder: str) -> Path:
    """Download a model from the registry into a folder; see `resolve`."""
    for name, value in MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow.artifacts import download_artifacts  # serving a file does not need MLflow

    done: Future[str] = Future()

    def run() -> None:
        try:
            done.set_result(download_artifacts(artifact_uri=model, dst_path=folder))
        except Exception as error:  # MLflow, its storage and its database raise many types
            done.set_exception(error)

    Thread(target=run, daemon=True).start()  # a stopping server does not wait for it
    try:
        files = list(Path(done.result(DOWNLOAD_S)).rglob("*.onnx"))
    except TimeoutError as error:
        message = f"MLflow did not answer within {DOWNLOAD_S} s: check MLFLOW_TRACKING_URI"
        raise TimeoutError(message) from error
    except Exception as error:
        raise ValueError(f"cannot download {model} from MLflow: {error}") from error
    if len(files) != 1:
        raise ValueError(f"{model} must contain one ONNX file, got {len(files)}")
    return files[0]
