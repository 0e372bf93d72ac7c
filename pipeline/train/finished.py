"""Finished trainings, kept in artifacts/partial/ until all networks are trained: one that fails or
is interrupted does not cost the others theirs."""

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.core import files
from pipeline.core.history import Epoch
from pipeline.core.provenance import Provenance
from pipeline.tracking.record import Record

Answers = list[tuple[int, int]]  # the class of each test image, and the predicted one


class Finished(BaseModel):
    """A network's training that has ended well; its weights are at `files.partial_path`."""

    model_config = ConfigDict(frozen=True)

    record: Record
    history: list[Epoch]
    answers: Answers

    def keep(self) -> None:
        """Write it as JSON beside its weights."""
        key = self.record.key
        digest = files.sha256(files.partial_path(key, "safetensors"))
        record = self.record.model_copy(update={"result_sha256": digest})
        content = self.model_copy(update={"record": record}).model_dump_json().encode()
        files.write_atomically(files.partial_path(key, "json"), content)

    def publish(self) -> None:
        """Copy the weights to where the later stages read them, and write the record."""
        key = self.record.key
        content = files.partial_path(key, "safetensors").read_bytes()
        files.write_atomically(files.weights_path(key), content)
        self.record.write()


def find_finished(key: str, provenance: Provenance) -> Finished | None:
    """Return the network's training of that provenance if it was kept whole."""
    try:
        finished = Finished.model_validate_json(files.partial_path(key, "json").read_bytes())
        digest = files.sha256(files.partial_path(key, "safetensors"))
    except (FileNotFoundError, ValidationError):
        return None
    record = finished.record
    return finished if (record.provenance, record.result_sha256) == (provenance, digest) else None
