"""What MLflow holds of a training and of the study, read from the files that the stages wrote."""

from pathlib import Path
from typing import Any, NamedTuple

from models import NETWORKS
from pipeline.core import files
from pipeline.core.execution import Execution, now_ms
from pipeline.core.history import metric_points, read_history
from pipeline.core.params import load_params
from pipeline.core.provenance import Provenance
from pipeline.data.dataset import NAME

Point = tuple[str, float, int, int]  # a metric's name, value, time in ms since 1970, epoch


class Header(NamedTuple):
    """The part of a run that exists when it begins: names, parameters and provenance.

    execution_id: None if the files were made elsewhere, or restored by DVC; started_ms is then
    the time of the recording.
    """

    experiment: str
    key: str
    stage: str
    text: str
    provenance: Provenance
    params: dict[str, Any]
    started_ms: int
    execution_id: str | None


class Recording(NamedTuple):
    """The content of a finished run.

    result: a tag with the SHA-256 of what was made, which identifies it together with the
    provenance's content tags; tags: any others; artifacts: files and folders.
    """

    header: Header
    result: dict[str, str]
    tags: dict[str, str]
    metrics: list[Point]
    artifacts: list[Path]


def training_header(key: str, provenance: Provenance, execution: Execution | None) -> Header:
    """Return the header of a training's run."""
    params = provenance.params
    return Header(
        experiment=load_params().tracking.experiment,
        key=key,
        stage="train",
        text=f"{NETWORKS[key].title} trained on {NAME} by plain SGD: {params['epochs']} epochs, "
        f"batch size {params['batch_size']}, learning rate {params['lr']}, seed {params['seed']}",
        provenance=provenance,
        params={"network": key, **params},
        **when(execution),
    )


def when(execution: Execution | None) -> dict[str, Any]:
    """Return the last two fields of a header."""
    if execution:
        return {"started_ms": execution.started_ms, "execution_id": execution.id}
    return {"started_ms": now_ms(), "execution_id": None}


def training(key: str) -> Recording:
    """Return a finished training: every epoch, its answers and the figure of all networks."""
    provenance = Provenance.read(files.PROVENANCE, "train")
    history = read_history(files.require(files.history_path(key), "train"))
    weights = files.require(files.weights_path(key), "train")
    execution = Execution.read(files.execution_path(key), weights)
    header = training_header(key, provenance, execution)
    known = execution is not None and len(execution.ended_ms) == len(history)
    times = execution.ended_ms if execution and known else [header.started_ms] * len(history)
    return Recording(
        header=header,
        result={"weights.sha256": files.sha256(weights)},
        tags={},
        metrics=list(metric_points(history, times)),
        artifacts=[files.require(files.LOSSES_FIGURE, "train"), files.answers_path(key)],
    )


def study() -> Recording:
    """Return the finished study: every interval and verdict, and the report."""
    provenance = Provenance.read(files.STUDY_PROVENANCE, "study")
    execution = Execution.read(files.STUDY_EXECUTION, files.VERDICTS)
    verdicts = files.read_json(files.VERDICTS, "study")
    started = when(execution)
    end = execution.ended_ms[-1] if execution else started["started_ms"]
    return Recording(
        header=Header(
            experiment=load_params().tracking.study_experiment,
            key="study",
            stage="study",
            text=f"{len(verdicts)} claims about batch normalization, tested on {NAME}: the tags "
            "have the verdicts, the metrics the intervals, and study/report.html is the report",
            provenance=provenance,
            params=provenance.params,
            **started,
        ),
        result={"verdicts.sha256": files.sha256(files.VERDICTS)},
        tags={f"{claim}.verdict": verdict["verdict"] for claim, verdict in verdicts.items()},
        metrics=[
            (f"{claim}.{bound}", verdict[bound], end, 0)
            for claim, verdict in verdicts.items()
            for bound in ("mean", "low", "high")
        ],
        artifacts=[files.STUDY],
    )
