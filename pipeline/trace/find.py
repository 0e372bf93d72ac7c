"""Finds the model that the command-line argument WHAT names."""

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
from pipeline.tracking.adaptations import find_adaptation
from pipeline.tracking.metrics import digest_of_run
from pipeline.tracking.registry import (
    ADAPTED_FROM,
    ADAPTED_IN,
    all_versions,
    find_alias,
    find_version,
    registered_file,
)
from pipeline.tracking.runs import find_trainings


def find(client: MlflowClient, what: str, request: Path | None) -> tuple[Subject, dict[str, Check]]:
    """Return the model that WHAT is about, and the checks that come before its run's.

    Raises:
        ValueError: WHAT names no model and no run.
    """
    if what.startswith(("http://", "https://")):
        return answered(client, served_version(what), partial(check_server, what))
    if what in (CHAMPION, CHALLENGER):
        version = find_alias(client, what)
        if not version:
            raise ValueError(f"there is no {what}: run `make repro`")
        return subject_of(client, version=version), MODEL_CHECKS
    if Path(what).is_file():
        content = Path(what).read_bytes()
        if response := read_response(content):
            check = partial(check_saved, response, request)
            return answered(client, str(response["model_version"]), check)
        here = Path(what).resolve() == load_params().export.model
        return subject_of(client, content, here=here), MODEL_CHECKS
    runs = find_trainings(client, what) if re.fullmatch("[0-9a-f]{32}", what) else []
    if not runs:
        raise ValueError(
            f"WHAT must be a model file, a server's URL, a saved response, a run's id, "
            f"'champion' or 'challenger', got {what!r}"
        )
    has_model = "model.sha256" in runs[0].data.tags
    return subject_of(client, run=runs[0]), MODEL_CHECKS if has_model else {}


def answered(
    client: MlflowClient, version_digits: str, check: Callable[[bytes], str]
) -> tuple[Subject, dict[str, Check]]:
    """Return the model that an answer names by the first digits of its SHA-256, and the checks from
    the answer on."""
    found = Subject()
    if re.fullmatch("[0-9a-f]{12,64}", version_digits):
        exported = [path for path in map(files.model_path, NETWORKS) if path.is_file()]
        if version := find_version(client, version_digits):
            found = subject_of(client, version=version)
        for path in exported if found == Subject() else []:
            if files.sha256(path).startswith(version_digits):
                found = subject_of(client, path.read_bytes())

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
    return found, checks if found == Subject() else checks | MODEL_CHECKS


def subject_of(
    client: MlflowClient,
    model: bytes | None = None,
    version: ModelVersion | None = None,
    run: Run | None = None,
    here: bool = False,
) -> Subject:
    """Return the subject of a model's bytes, of a registered version or of a run.

    A model that was changed is found by its weights. here: whether `model` is the file in
    artifacts/, whatever it holds.
    """
    export = load_params().export
    if model is not None:
        version = find_version(client, files.sha256(model))
    if model is not None and not version:
        weights = [read_metadata(model).get("weights.sha256", "")]
        if here and files.weights_path(export.network).is_file():
            weights.append(files.sha256(files.weights_path(export.network)))
        found = [
            run for digest in weights if len(digest) == 64 for run in find_trainings(client, digest)
        ]
        run = found[0] if found else None
    if run and not version and "model.sha256" in run.data.tags:
        version = find_version(client, run.data.tags["model.sha256"])
    if version:
        run = next(iter(find_trainings(client, version.run_id or "")), None)
        here |= export.model.is_file() and (
            files.sha256(export.model) == version.tags.get("model.sha256")
        )
    registered = registered_file(version) if version else None
    metrics = digest_of_run(client, run, Epoch._fields[1:]) if run else None
    trained = adaptation = None
    if version and ADAPTED_FROM in version.tags:
        trained = all_versions(client).get(version.tags[ADAPTED_FROM])
        adaptation = find_adaptation(client, version.tags[ADAPTED_IN])
    content = registered if model is None else model
    return Subject(content, registered, version, run, metrics, here, trained, adaptation)


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
