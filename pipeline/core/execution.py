"""When a training or the study ran on this machine: artifacts/<key>/execution.json.

DVC does not know this file, since no two runs of the same code take the same time. So there is none
after `dvc pull`, and after `dvc checkout` it may be that of other results.
"""

import json
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from pipeline.core import files
from pipeline.core.history import Epoch


class Execution(BaseModel):
    """One execution: times are in milliseconds since 1970; a training has an end per epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    started_ms: int
    ended_ms: tuple[int, ...] = ()

    @classmethod
    def start(cls) -> "Execution":
        """Return an execution that starts now."""
        return cls(id=uuid.uuid4().hex, started_ms=now_ms())

    def add_end(self) -> "Execution":
        """Return this execution with one more end, now."""
        return self.model_copy(update={"ended_ms": (*self.ended_ms, now_ms())})

    def write(self, path: Path, result: Path) -> None:
        """Write it as JSON, with the SHA-256 of the file that it made."""
        content = {"result.sha256": files.sha256(result), **self.model_dump()}
        files.write_json(path, content)

    @classmethod
    def read(cls, path: Path, result: Path) -> "Execution | None":
        """Return the execution that made the file `result`, or None if that is unknown."""
        try:
            content = json.loads(path.read_bytes())
            made = content.pop("result.sha256") == files.sha256(result)
            return cls.model_validate(content) if made else None
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
            return None  # whatever it was, it only adds times


class Update(NamedTuple):
    """A training at its start, after an epoch or at its end.

    status: RUNNING until its results are recorded, or FAILED or KILLED, as MLflow calls it.
    """

    key: str
    execution: Execution
    history: tuple[Epoch, ...] = ()
    status: str = "RUNNING"

    def add(self, row: Epoch) -> "Update":
        """Return the training after one more epoch, which ends now."""
        return self._replace(execution=self.execution.add_end(), history=(*self.history, row))


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return round(time.time() * 1000)
