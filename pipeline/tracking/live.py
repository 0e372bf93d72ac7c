"""Sends trainings to MLflow while they run."""

from collections.abc import Callable, Iterator
from queue import Queue

from mlflow.entities import Run

from pipeline.tracking.metrics import log_metrics
from pipeline.tracking.record import Record, now_ms
from pipeline.tracking.runs import begin
from pipeline.tracking.store import open_store


def follow(records: Queue[Record | None], started: Callable[[str, Run], None]) -> None:
    """Start a run for each new record, log its epochs, and set the status of a training that failed
    or was killed; `None` ends the loop. `runs.finish` completes a training that succeeds.

    started: called with the network's key and the run, for each run that starts.

    Raises:
        ConnectionError: MLflow failed.
    """
    ids: dict[str | None, str] = {}
    with open_store() as client:
        for record in newest(records):
            if record.id not in ids:
                run = begin(client, record)
                ids[record.id] = run.info.run_id
                started(record.key, run)
            log_metrics(client, ids[record.id], record)
            if record.status != "RUNNING":
                client.set_terminated(ids[record.id], record.status, now_ms())


def newest(records: Queue[Record | None]) -> Iterator[Record]:
    """Yield the latest record of each training that waits in the queue, until `None`."""
    more = True
    while more:
        waiting = [records.get()]
        while not records.empty():
            waiting.append(records.get())
        more = waiting[-1] is not None
        yield from {record.id: record for record in waiting if record}.values()
