"""The model that a trace is about: its bytes, its version and its run in MLflow."""

from collections.abc import Callable
from typing import NamedTuple

import onnx
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from pipeline.core import files


class GapError(Exception):
    """A link that does not hold: `unchecked` (its bytes are not here), `missing` or `broken`."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(message)
        self.state = state


class Subject(NamedTuple):
    """One model. Whatever is unknown or lost is None.

    model: the bytes in question; registered: those in the registry; version, run: MLflow's;
    metrics: the digest of the run's; here: whether artifacts/ holds the same model; trained,
    adaptation: the version that it was adapted from, and the adaptation's run.
    """

    model: bytes | None = None
    registered: bytes | None = None
    version: ModelVersion | None = None
    run: Run | None = None
    metrics: str | None = None
    here: bool = False
    trained: ModelVersion | None = None
    adaptation: Run | None = None

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


Check = Callable[[Subject], str]
