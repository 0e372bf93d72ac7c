"""Reads the metrics of runs, and notices if they were changed."""

import json
from collections.abc import Iterable

from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from pipeline.core import files
from pipeline.tracking.recordings import Point, Recording


def holds(client: MlflowClient, run: Run, recording: Recording) -> bool:
    """Return whether a run has the recording's parameters, and the metrics it was recorded with."""
    params = {name: str(value) for name, value in recording.header.params.items()}
    metrics = recorded_metrics(client, run, {name for name, *_ in recording.metrics})
    same_metrics = metrics == run.data.tags.get("metrics.sha256", metrics)
    return params.items() <= run.data.params.items() and same_metrics


def metric_history(client: MlflowClient, run_id: str, names: Iterable[str]) -> list[Metric]:
    """Return all values of some of a run's metrics."""
    return [m for name in names for m in client.get_metric_history(run_id, name)]


def recorded_metrics(client: MlflowClient, run: Run, names: Iterable[str]) -> str:
    """Return the digest of a run's metrics, or a sentence if MLflow contradicts itself."""
    history = metric_history(client, run.info.run_id, names)
    last = {m.key: m.value for m in history}  # which MLflow keeps a second time, and shows
    if any(run.data.metrics.get(name) != last[name] for name in last):
        return "MLflow's last values are not those of its history"
    return metrics_sha256((m.key, m.value, m.timestamp, m.step) for m in history)


def metrics_sha256(points: Iterable[Point]) -> str:
    """Return the SHA-256 of metrics in any order, without their times."""
    return files.sha256(
        json.dumps(sorted((n, value, step) for n, value, _, step in points)).encode()
    )
