"""Resolves --model to files: paths, or models in MLflow's registry."""

import re
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
EXPORTED = "artifacts/export/*.onnx"  # written by `dvc repro export`, below the project root
NAMED = re.compile(r"(?:([\w.-]+)=)?(.*)")
REGISTERED = "models:/"
VERSION = re.compile(REGISTERED + r"(?P<name>[^@/]+)(?:@(?P<alias>.+)|/(?P<version>\d+))")

State = tuple[object, ...]  # of a source; see `state`


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


def state(where: str) -> State:
    """Return what differs once there is another model, without reading it; see `fetch`."""
    if not where.startswith(REGISTERED):
        path = Path(where)
        its = path.stat() if path.exists() else None  # `fetch` says what to do
        return (its.st_mtime_ns, its.st_size, its.st_ino) if its else ()
    from mlflow import MlflowClient  # serving a file does not need MLflow

    found = VERSION.fullmatch(where)
    if not found:
        raise ValueError(f"{where} must be models:/NAME@ALIAS or models:/NAME/VERSION")
    try:
        client = MlflowClient()
        if alias := found["alias"]:
            version = client.get_model_version_by_alias(found["name"], alias)
        else:
            version = client.get_model_version(found["name"], found["version"])
    except Exception as error:  # MLflow, its storage and its database raise many types
        raise ValueError(f"cannot find {where} in MLflow: {error}") from error
    return version.version, version.source


def fetch(where: str, folder: str) -> bytes:
    """Return the content of an ONNX file, which is downloaded into the folder if it is registered.

    where: a path, or models:/NAME@ALIAS or models:/NAME/VERSION in the registry at
        MLFLOW_TRACKING_URI.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the registry does not answer, or has other than one ONNX file for the model.
    """
    if not where.startswith(REGISTERED):
        if not Path(where).is_file():
            raise FileNotFoundError(f"{where} not found: run `dvc repro export`")
        return Path(where).read_bytes()
    from mlflow.artifacts import download_artifacts

    try:
        files = list(Path(download_artifacts(artifact_uri=where, dst_path=folder)).rglob("*.onnx"))
    except Exception as error:
        raise ValueError(f"cannot download {where} from MLflow: {error}") from error
    if len(files) != 1:
        raise ValueError(f"{where} must contain one ONNX file, got {len(files)}")
    return files[0].read_bytes()
