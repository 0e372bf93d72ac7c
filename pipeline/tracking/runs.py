"""Records each training, and the study, as one MLflow run, from the files that the stages wrote.

The same content is the same run: recording it again changes nothing.
"""

import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import metric_points, read_history
from pipeline.core.params import load_params
from pipeline.core.provenance import Provenance
from pipeline.tracking.store import open_experiment

Point = tuple[str, float, int, int]  # a metric's name, value, time in ms since 1970, epoch
CLONE = f"{socket.gethostname()}:{files.PROJECT}"


class Recording(NamedTuple):
    """The content of one run.

    result: a tag with the SHA-256 of what was made; with the provenance's content tags it tells
    the run from all others. files: a file or a folder.
    """

    experiment: str
    name: str
    stage: str
    provenance: Provenance
    result: dict[str, str]
    params: dict[str, Any]
    metrics: list[Point]
    files: Path


def training(key: str) -> Recording:
    """Return one network's run: every epoch, and the figure of all networks."""
    provenance = Provenance.read(files.PROVENANCE, "train")
    history = read_history(files.require(files.history_path(key), "train"))
    return Recording(
        experiment=load_params().tracking.experiment,
        name=key,
        stage="train",
        provenance=provenance,
        result={"weights.sha256": files.sha256(files.weights_path(key))},
        params={"network": key, **provenance.params},
        metrics=list(metric_points(history, provenance.started_ms)),
        files=files.require(files.LOSSES_FIGURE, "train"),
    )


def study() -> Recording:
    """Return the study's run: every interval and verdict, and the whole report."""
    provenance = Provenance.read(files.STUDY_PROVENANCE, "study")
    verdicts = files.read_json(files.VERDICTS, "study")
    found = {f"{claim}.verdict": verdict["verdict"] for claim, verdict in verdicts.items()}
    return Recording(
        experiment=load_params().tracking.study_experiment,
        name="study",
        stage="study",
        provenance=provenance,
        result={"verdicts.sha256": files.sha256(files.VERDICTS)},
        params={**provenance.params, **found},
        metrics=[
            (f"{claim}.{bound}", verdict[bound], provenance.started_ms, 0)
            for claim, verdict in verdicts.items()
            for bound in ("mean", "low", "high")
        ],
        files=files.STUDY,
    )


def record_all(client: MlflowClient) -> dict[str, str]:
    """Record what is missing; return the id of each network's run, and of the study's, by name."""
    recordings = [training(key) for key in NETWORKS if files.weights_path(key).is_file()]
    if files.VERDICTS.is_file():
        recordings.append(study())
    with files.locked("mlflow"):
        open_experiment(client, load_params().tracking.experiment)  # the first gets number 1
        return {recording.name: record(client, recording) for recording in recordings}


def record(client: MlflowClient, recording: Recording) -> str:
    """Return the id of the run with the recording's content, creating the run if there is none.

    A run whose recording was interrupted, or whose content was changed, is deleted. One that
    another clone of the project is still recording is left alone.
    """
    experiment_id = open_experiment(client, recording.experiment)
    provenance = recording.provenance
    identity = recording.result | provenance.content_tags()
    same = " and ".join(f"tags.`{name}` = '{value}'" for name, value in identity.items())
    for run in client.search_runs([experiment_id], same, order_by=["start_time"]):
        finished = run.info.status == "FINISHED"
        if finished and holds(client, run, recording):
            return run.info.run_id
        if finished or run.data.tags.get("recorded.in") == CLONE:
            client.delete_run(run.info.run_id)

    tags = recording.result | provenance.tags() | {"recorded.in": CLONE}
    tags["metrics.sha256"] = metrics_sha256(recording.metrics)
    tags["mlflow.source.git.commit"] = provenance.commit
    if os.environ.get("DVC_STAGE") != recording.stage:  # DVC's name of the stage it runs
        tags["restored.from.files"] = "true"
    run = client.create_run(experiment_id, provenance.started_ms, tags, recording.name)
    run_id = run.info.run_id
    params = [Param(name, str(value)) for name, value in recording.params.items()]
    client.log_batch(run_id, params=params)
    metrics = [Metric(*point) for point in recording.metrics]
    for i in range(0, len(metrics), 1000):  # a batch holds at most 1000
        client.log_batch(run_id, metrics[i : i + 1000])
    log = client.log_artifacts if recording.files.is_dir() else client.log_artifact
    log(run_id, str(recording.files))
    client.set_terminated(run_id, end_time=metrics[-1].timestamp)
    return run_id


def holds(client: MlflowClient, run: Run, recording: Recording) -> bool:
    """Return whether a run has the recording's parameters, and the metrics it was recorded with.

    Metrics are compared with the run's own tag: the recording's seconds differ if the same training
    has run again.
    """
    params = {name: str(value) for name, value in recording.params.items()}
    metrics = recorded_metrics(client, run, {name for name, *_ in recording.metrics})
    same_metrics = metrics == run.data.tags.get("metrics.sha256", metrics)
    return params.items() <= run.data.params.items() and same_metrics


def recorded_metrics(client: MlflowClient, run: Run, names: Iterable[str]) -> str:
    """Return the digest of a run's metrics, or a sentence if MLflow contradicts itself."""
    history = [m for name in names for m in client.get_metric_history(run.info.run_id, name)]
    last = {m.key: m.value for m in history}  # which MLflow keeps a second time, and shows
    if any(run.data.metrics.get(name) != last[name] for name in last):
        return "MLflow's last values are not those of its history"
    return metrics_sha256((m.key, m.value, m.timestamp, m.step) for m in history)


def metrics_sha256(points: Iterable[Point]) -> str:
    """Return the SHA-256 of metrics in any order, without their times."""
    return files.sha256(
        json.dumps(sorted((n, value, step) for n, value, _, step in points)).encode()
    )


def find_runs(client: MlflowClient, identity: str) -> list[Run]:
    """Return the trainings with that id, or with that SHA-256 of their weights."""
    field = "tags.`weights.sha256`" if len(identity) == 64 else "attributes.run_id"
    experiment = client.get_experiment_by_name(load_params().tracking.experiment)
    if not experiment or experiment.lifecycle_stage == "deleted":
        return []
    return client.search_runs([experiment.experiment_id], f"{field} = '{identity}'")
