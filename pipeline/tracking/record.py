"""The record of one training or of the study, from its start until it is a run in MLflow.

A flow starts the record, adds metrics, and writes it to artifacts/records/ once the results are
there. This module imports no MLflow, which takes seconds.
"""

import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import Epoch, read_history
from pipeline.core.params import load_params, own_params
from pipeline.core.provenance import Provenance, git
from pipeline.data.dataset import NAME


class Point(NamedTuple):
    """One value of a metric; time_ms: since 1970; step: the epoch, 0 in the study."""

    name: str
    value: float
    time_ms: int
    step: int


class Record(BaseModel):
    """One execution of a training or of the study.

    key: the network's, or "study". id: tells executions apart that have equal results; None if the
    results were made elsewhere or restored by DVC. commit: HEAD at the start; dirty: whether the
    code or the parameters differ from that commit's. started_ms: since 1970. status: as MLflow
    calls it. result_sha256: of the weights or the verdicts, empty until they are written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    provenance: Provenance
    id: str | None
    commit: str
    dirty: bool
    started_ms: int
    points: tuple[Point, ...] = ()
    status: Literal["RUNNING", "FAILED", "KILLED"] = "RUNNING"
    result_sha256: str = ""

    @classmethod
    def start(cls, key: str, provenance: Provenance) -> "Record":
        """Return the record of an execution that starts now."""
        commit = git("rev-parse", "HEAD")
        return cls(
            key=key,
            provenance=provenance,
            id=uuid.uuid4().hex,
            commit=commit,
            dirty=not provenance.is_at(commit),
            started_ms=now_ms(),
        )

    def add(self, points: Iterable[Point]) -> "Record":
        """Return the record with more values of metrics."""
        return self.model_copy(update={"points": (*self.points, *points)})

    def end(self, status: Literal["FAILED", "KILLED"]) -> "Record":
        """Return the record of an execution that ends without results."""
        return self.model_copy(update={"status": status})

    def complete(self) -> "Record":
        """Return the record with the digest of its results, which are in artifacts/."""
        path = files.VERDICTS if self.key == "study" else files.weights_path(self.key)
        return self.model_copy(update={"result_sha256": files.sha256(path)})

    def write(self) -> None:
        """Write the completed record as JSON."""
        content = self.complete().model_dump_json(indent=2).encode()
        files.write_atomically(files.record_path(self.key), content)


def read_records() -> list[Record]:
    """Return the records of all trainings, and of the study, whose results are in artifacts/."""
    done = {stage for stage in ("train", "study") if files.provenance_path(stage).is_file()}
    trained = [key for key in NETWORKS if "train" in done and files.weights_path(key).is_file()]
    trainings = [read_record("train", key) for key in trained]
    return [*trainings, read_record("study", "study")] if "study" in done else trainings


def read_record(stage: str, key: str) -> Record:
    """Return the record that was written with the results in artifacts/ or, if there is none, one
    made from their files, without an id and with the current time.

    Raises:
        FileNotFoundError: the stage has not run.
    """
    made = Record.start(key, Provenance.read(stage)).model_copy(update={"id": None}).complete()
    try:
        written = Record.model_validate_json(files.record_path(key).read_bytes())
        if (written.result_sha256, written.provenance) == (made.result_sha256, made.provenance):
            return written
    except (FileNotFoundError, ValidationError):
        pass  # without it, only the times are lost
    if stage == "study":
        return made.add(verdict_points(made.started_ms))
    history = read_history()[key]
    return made.add(point for row in history for point in epoch_points(row, made.started_ms))


def epoch_points(row: Epoch, time_ms: int) -> list[Point]:
    """Return the metrics of an epoch that ended at that time."""
    metrics = {name: value for name, value in row._asdict().items() if value is not None}
    del metrics["epoch"]
    return [Point(name, value, time_ms, row.epoch) for name, value in metrics.items()]


def verdict_points(time_ms: int) -> list[Point]:
    """Return the intervals of the study's verdicts, which were reached at that time."""
    return [
        Point(f"{claim}.{bound}", verdict[bound], time_ms, 0)
        for claim, verdict in files.read_json(files.VERDICTS, "study").items()
        for bound in ("mean", "low", "high")
    ]


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return round(time.time() * 1000)


class Content(NamedTuple):
    """The content of a run.

    identity: the tags that runs with equal results share, among them the digest of the results.
    tags, artifacts: of a run whose results are there; an artifact is a file or a folder.
    """

    experiment: str
    text: str
    params: dict[str, Any]
    identity: dict[str, str]
    tags: dict[str, str]
    artifacts: list[Path]


def content_of(record: Record) -> Content:
    """Return the content of the record's run."""
    return study(record) if record.key == "study" else training(record)


def training(record: Record) -> Content:
    """Return the content of a training's run."""
    params = own_params(record.key, record.provenance.params)
    recipe = ", ".join(
        f"{name} {value}" for name, value in params.items() if value not in ({}, None)
    )
    return Content(
        experiment=load_params().tracking.experiment,
        text=f"{NETWORKS[record.key].title} trained on {NAME}: {recipe}",
        params={"network": record.key, **params},
        identity={"weights.sha256": record.result_sha256, **record.provenance.content_tags()},
        tags={},
        artifacts=[files.LOSSES_FIGURE, files.confusion_path(record.key), files.PREDICTIONS],
    )


def study(record: Record) -> Content:
    """Return the content of the study's run."""
    verdicts = files.read_json(files.VERDICTS, "study")
    return Content(
        experiment=load_params().tracking.study_experiment,
        text=f"{len(verdicts)} claims about batch normalization, tested on {NAME}: the tags have "
        "the verdicts, the metrics the intervals, and study/report.html is the report",
        params=record.provenance.params,
        identity={"verdicts.sha256": record.result_sha256, **record.provenance.content_tags()},
        tags={f"{claim}.verdict": verdict["verdict"] for claim, verdict in verdicts.items()},
        artifacts=[files.STUDY],
    )
