"""What is known of a model: its bytes, its version and its run in MLflow, found by content."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from pipeline import tracking
from pipeline.artifacts import MODEL, sha256, weights_path


class Subject(NamedTuple):
    """What is known of one model.

    model: the bytes in question; registered: those in the registry; version, run: MLflow's; here:
    whether artifacts/ is about the same model.
    """

    model: bytes | None
    registered: bytes | None
    version: Any
    run: Any
    here: bool

    def tag(self, name: str) -> str | None:
        """Return a tag of the version, or else of the run."""
        holder = self.version.tags if self.version else self.run.data.tags if self.run else {}
        return holder.get(name)

    def said(self, name: str) -> set[str | None]:
        """Return what the run says and, if there is one, the version: one value if all is well."""
        holders = [self.run.data.tags, *([self.version.tags] if self.version else [])]
        return {holder.get(name) for holder in holders}

    def metadata(self) -> dict[str, str]:
        """Return what export wrote into the model, of the bytes that are as they were if any."""
        for content in (self.registered, self.model):
            if content and digest(content) == self.tag("model.sha256"):
                return read_metadata(content)
        return read_metadata(self.model or b"")


NOTHING = Subject(None, None, None, None, here=False)


def digest(content: bytes) -> str:
    """Return the SHA-256 as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_metadata(model: bytes) -> dict[str, str]:
    """Return what export wrote into the file, nothing if it cannot be read any more."""
    try:
        return {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}
    except Exception:  # protobuf has types of its own for it
        return {}


def fetch(uri: str | None, name: str = "") -> bytes | None:
    """Return what `download` does, None if it is no more."""
    try:
        return tracking.download(uri, name)
    except (OSError, *tracking.STORE_ERRORS):
        return None


def of_version(client: Any, version: Any, model: bytes | None = None) -> Subject:
    """Return what is known of a registered version, or of `model`, which should be the same."""
    registered = fetch(version.source, MODEL.name)
    runs = tracking.find_runs(client, version.run_id) if version.run_id else []
    here = MODEL.is_file() and sha256(MODEL) == version.tags.get("model.sha256")
    return Subject(model or registered, registered, version, runs[0] if runs else None, here)


def of_run(client: Any, run: Any, model: bytes | None = None) -> Subject:
    """Return what is known of a run's model, or of `model`, which should be the same."""
    registered = run.data.tags.get("model.sha256")
    version = tracking.find_version(client, registered) if registered else None
    if version:
        return of_version(client, version, model)
    return Subject(model, None, None, run, model is not None and MODEL.is_file())


def of_file(client: Any, path: Path) -> Subject:
    """Return what is known of a model file; one that was changed is known by its weights."""
    model = path.read_bytes()
    version = tracking.find_version(client, digest(model))
    if version:
        return of_version(client, version, model)
    here = path.resolve() == MODEL
    weights = [read_metadata(model).get("weights_sha256", "")]
    if here and weights_path("batchnorm_mlp").is_file():
        weights.append(sha256(weights_path("batchnorm_mlp")))
    for run in (run for w in weights if len(w) == 64 for run in tracking.find_runs(client, w)):
        return of_run(client, run, model)._replace(here=here)
    return Subject(model, None, None, None, here)


def of_digest(client: Any, model_sha256: str) -> Subject:
    """Return what is known of the model whose SHA-256 begins so, nothing if it is nowhere."""
    version = tracking.find_version(client, model_sha256)
    if version:
        return of_version(client, version)
    if MODEL.is_file() and sha256(MODEL).startswith(model_sha256):
        return of_file(client, MODEL)
    return NOTHING
