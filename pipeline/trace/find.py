"""Finds what a trace starts from: the command-line argument WHAT."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from pipeline.promote.gate import CHALLENGER, CHAMPION
from pipeline.trace import subject
from pipeline.trace.checks import MODEL_CHECKS, Check, GapError
from pipeline.trace.replay import check_response, check_server, served_version
from pipeline.trace.subject import Subject
from pipeline.tracking.registry import find_alias
from pipeline.tracking.runs import find_runs


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
        return subject.of_version(client, version), MODEL_CHECKS
    if Path(what).is_file():
        response = read_response(Path(what).read_bytes())
        if response:
            version_digits = str(response["model_version"])
            return answered(client, version_digits, partial(check_saved, response, request))
        return subject.of_file(client, Path(what)), MODEL_CHECKS
    runs = find_runs(client, what) if re.fullmatch("[0-9a-f]{32}", what) else []
    if not runs:
        raise ValueError(
            f"WHAT must be a model file, a server's URL, a saved response, a run's id, "
            f"'champion' or 'challenger', got {what!r}"
        )
    has_model = "model.sha256" in runs[0].data.tags
    return subject.of_run(client, runs[0]), MODEL_CHECKS if has_model else {}


def answered(
    client: MlflowClient, version_digits: str, check: Callable[[bytes], str]
) -> tuple[Subject, dict[str, Check]]:
    """Return the model that an answer names, and the checks from the answer on."""
    is_digest = re.fullmatch("[0-9a-f]{12,64}", version_digits)
    found = subject.of_digest(client, version_digits) if is_digest else None

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
