"""Sends trainings to MLflow while they run."""

from queue import Queue

from mlflow import MlflowClient
from mlflow.entities import Metric

from pipeline.core.execution import Update, now_ms
from pipeline.core.history import metric_points
from pipeline.core.provenance import Provenance
from pipeline.tracking.recordings import training_header
from pipeline.tracking.runs import begin
from pipeline.tracking.store import open_store


def follow(updates: Queue[Update | None], provenance: Provenance) -> None:
    """Begin a run when a training starts, log each epoch, and end the run of one that fails; until
    None. What a training has finished is recorded from its files; see `runs.record`.

    Raises:
        ConnectionError: MLflow failed.
    """
    runs: dict[str, str] = {}
    logged: dict[str, int] = {}
    with open_store() as client:
        more = True
        while more:
            waiting = [updates.get()]
            while not updates.empty():
                waiting.append(updates.get())
            more = waiting[-1] is not None
            # Of each training, the latest update has all that came before it.
            for update in {u.execution.id: u for u in waiting if u}.values():
                execution = update.execution
                if execution.id not in runs:
                    header = training_header(update.key, provenance, execution)
                    runs[execution.id] = begin(client, header)
                send(client, runs[execution.id], update, logged.get(execution.id, 0))
                logged[execution.id] = len(update.history)


def send(client: MlflowClient, run_id: str, update: Update, logged: int) -> None:
    """Log the epochs after the first `logged` ones, and the end of a training that failed."""
    points = metric_points(update.history[logged:], update.execution.ended_ms[logged:])
    if metrics := [Metric(*point) for point in points]:
        client.log_batch(run_id, metrics)
    if update.status != "RUNNING":
        client.set_terminated(run_id, update.status, now_ms())
