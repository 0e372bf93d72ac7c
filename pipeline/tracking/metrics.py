"""Logs metrics to MLflow, and notices if they were changed; core/history.py defines them."""

import json
from collections.abc import Iterable

from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from pipeline.core import files
from pipeline.tracking.record import Point, Record


def log_metrics(client: MlflowClient, run_id: str, record: Record) -> None:
    """Log the record's metrics that the run does not have yet."""
    history = read_metrics(client, run_id, {point.name for point in record.points})
    there = {(point.name, point.value, point.step) for point in history}
    missing = [Metric(*p) for p in record.points if (p.name, p.value, p.step) not in there]
    for i in range(0, len(missing), 1000):  # a batch holds at most 1000
        client.log_batch(run_id, missing[i : i + 1000])


def read_metrics(client: MlflowClient, run_id: str, names: Iterable[str]) -> list[Point]:
    """Return all values of some of a run's metrics."""
    found = [m for name in names for m in client.get_metric_history(run_id, name)]
    return [Point(m.key, m.value, m.timestamp, m.step) for m in found]


def digest_of_run(client: MlflowClient, run: Run, names: Iterable[str]) -> str:
    """Return the digest of a run's metrics, or a sentence if MLflow contradicts itself."""
    history = read_metrics(client, run.info.run_id, names)
    last = {point.name: point.value for point in history}  # which MLflow also keeps by itself
    if any(run.data.metrics.get(name) != last[name] for name in last):
        return "MLflow's last values are not those of its history"
    return metrics_sha256(history)


def metrics_sha256(points: Iterable[Point]) -> str:
    """Return the SHA-256 of metrics in any order, without their times."""
    values = sorted((point.name, point.value, point.step) for point in points)
    return files.sha256(json.dumps(values).encode())
