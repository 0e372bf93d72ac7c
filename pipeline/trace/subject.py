"""The model that a trace is about: its bytes, its version and its run in MLflow, by content."""

from pathlib import Path
from typing import NamedTuple

import onnx
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import Epoch
from pipeline.core.params import load_params
from pipeline.tracking.metrics import recorded_metrics
from pipeline.tracking.registry import find_version
from pipeline.tracking.runs import find_runs
from pipeline.tracking.store import download


class Subject(NamedTuple):
    """One model. Whatever is unknown or lost is None.

    model: the bytes in question; registered: those in the registry; version, run: MLflow's;
    metrics: the digest of the run's; here: whether artifacts/ holds the same model.
    """

    model: bytes | None = None
    registered: bytes | None = None
    version: ModelVersion | None = None
    run: Run | None = None
    metrics: str | None = None
    here: bool = False

    def tag(self, name: str) -> str | None:
        """Return a tag of the version, or else of the run."""
        holder = self.version.tags if self.version else self.run.data.tags if self.run else {}
        return holder.get(name)

    def claims(self, name: str) -> set[str | None]:
        """Return the values of a tag in the run and, if there is one, the version, and of the
        model's metadata if they have it: one value if all is well."""
        holders = [self.run.data.tags] if self.run else []
        holders += [self.version.tags] if self.version else []
        claimed = {holder.get(name) for holder in holders}
        metadata = self.metadata()
        return claimed | {metadata[name]} if name in metadata else claimed

    def metadata(self) -> dict[str, str]:
        """Return the model's metadata, read from intact bytes if there are any."""
        for content in (self.registered, self.model):
            if content and files.sha256(content) == self.tag("model.sha256"):
                return read_metadata(content)
        return read_metadata(self.model or b"")


def read_metadata(model: bytes) -> dict[str, str]:
    """Return an ONNX file's metadata, empty if it cannot be read."""
    try:
        return {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}
    except Exception:  # protobuf raises types of its own
        return {}


def of_version(client: MlflowClient, version: ModelVersion, model: bytes | None = None) -> Subject:
    """Return the subject of a registered version, or of `model`, which should be the same."""
    path = load_params().export.model
    registered = download(version.source, path.name)
    run = next(iter(find_runs(client, version.run_id or "")), None)
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
    return recorded_metrics(client, run, Epoch._fields[1:]) if run else None


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
        for run in find_runs(client, digest) if len(digest) == 64 else []:
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
