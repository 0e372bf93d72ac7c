"""Finds the model that a trace is about by the command-line argument WHAT."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import Epoch
from pipeline.core.params import load_params
from pipeline.promote.gate import CHALLENGER, CHAMPION
from pipeline.trace.model_checks import MODEL_CHECKS
from pipeline.trace.replay import check_response, check_server, served_version
from pipeline.trace.subject import Check, GapError, Subject, read_metadata
from pipeline.tracking.metrics import digest_of_run
from pipeline.tracking.registry import find_alias, find_version, registered_file
from pipeline.tracking.runs import find_trainings


def find(client: MlflowClient, what: str, request: Path | None) -> tuple[Subject, dict[str, Check]]:
    """Return the model that WHAT is about, and the checks that come before its run's.

    Raises:
        ValueError: there is no such thing.
    """
    if what.startswith(("http://", "https://")):
        return answered(client, served_version(what), partial(check_server, what))
    if what in (CHAMPION, CHALLENGER):
        version = find_alias(client, what)
        if not version:
            raise ValueError(f"there is no {what}: run `make repro`")
        return of_version(client, version), MODEL_CHECKS
    if Path(what).is_file():
        response = read_response(Path(what).read_bytes())
        if response:
            version_digits = str(response["model_version"])
            return answered(client, version_digits, partial(check_saved, response, request))
        return of_file(client, Path(what)), MODEL_CHECKS
    runs = find_trainings(client, what) if re.fullmatch("[0-9a-f]{32}", what) else []
    if not runs:
        raise ValueError(
            f"WHAT must be a model file, a server's URL, a saved response, a run's id, "
            f"'champion' or 'challenger', got {what!r}"
        )
    has_model = "model.sha256" in runs[0].data.tags
    return of_run(client, runs[0]), MODEL_CHECKS if has_model else {}


def answered(
    client: MlflowClient, version_digits: str, check: Callable[[bytes], str]
) -> tuple[Subject, dict[str, Check]]:
    """Return the model that an answer names, and the checks from the answer on."""
    is_digest = re.fullmatch("[0-9a-f]{12,64}", version_digits)
    found = of_digest(client, version_digits) if is_digest else None

    def check_answer(subject: Subject) -> str:
        if subject.model is None:
            raise GapError("broken", f"no known model's SHA-256 starts with {version_digits!r}")
        try:
            return f"model_version {version_digits}, and {check(subject.model)}"
        except GapError:
            raise
        except Exception as error:  # NumPy's and ONNX Runtime's too: anybody may have written it
            raise GapError("broken", f"model_version {version_digits}, but {error}") from error

    checks: dict[str, Check] = {"answer": check_answer}
    return (found, checks | MODEL_CHECKS) if found else (Subject(), checks)


def read_response(content: bytes) -> dict[str, Any] | None:
    """Return a saved response of the server, or None if the bytes are something else."""
    try:
        response = json.loads(content)
    except ValueError:
        return None
    return response if isinstance(response, dict) and "model_version" in response else None


def check_saved(response: dict[str, Any], request: Path | None, model: bytes) -> str:
    """Compare a saved response with the model's answer to its request."""
    if request is None:
        raise GapError("unchecked", "pass its request by --request FILE to have it checked")
    return check_response(response, json.loads(request.read_bytes()), model)


def of_version(client: MlflowClient, version: ModelVersion, model: bytes | None = None) -> Subject:
    """Return the subject of a registered version, or of `model`, which should be the same."""
    path = load_params().export.model
    registered = registered_file(version)
    run = next(iter(find_trainings(client, version.run_id or "")), None)
    here = path.is_file() and files.sha256(path) == version.tags.get("model.sha256")
    metrics = metrics_of(client, run)
    return Subject(model or registered, registered, version, run, metrics, here)


def of_run(client: MlflowClient, run: Run, model: bytes | None = None) -> Subject:
    """Return the subject of a run's model, or of `model`, which should be the same."""
    registered = run.data.tags.get("model.sha256")
    version = find_version(client, registered) if registered else None
    if version:
        return of_version(client, version, model)
    here = model is not None and load_params().export.model.is_file()
    return Subject(model, run=run, metrics=metrics_of(client, run), here=here)


def metrics_of(client: MlflowClient, run: Run | None) -> str | None:
    """Return the digest of a training's metrics as MLflow has them."""
    return digest_of_run(client, run, Epoch._fields[1:]) if run else None


def of_file(client: MlflowClient, path: Path) -> Subject:
    """Return the subject of a model file; one that was changed is found by its weights."""
    model = path.read_bytes()
    version = find_version(client, files.sha256(model))
    if version:
        return of_version(client, version, model)
    export = load_params().export
    here = path.resolve() == export.model
    weights = [read_metadata(model).get("weights.sha256", "")]
    if here and files.weights_path(export.network).is_file():
        weights.append(files.sha256(files.weights_path(export.network)))
    for digest in weights:
        for run in find_trainings(client, digest) if len(digest) == 64 else []:
            return of_run(client, run, model)._replace(here=here)
    return Subject(model, here=here)


def of_digest(client: MlflowClient, model_sha256: str) -> Subject | None:
    """Return the subject whose model's SHA-256 starts with these digits, None if there is none."""
    version = find_version(client, model_sha256)
    if version:
        return of_version(client, version)
    for path in map(files.model_path, NETWORKS):
        if path.is_file() and files.sha256(path).startswith(model_sha256):
            return of_file(client, path)
    return None
