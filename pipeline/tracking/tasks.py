"""The Prefect tasks that record trainings and the study in MLflow. None of them fails its flow: the
next `dvc repro` records what is missing. MLflow takes seconds to import, so they import it
themselves, while the networks are training."""

import time
from queue import Queue
from typing import TYPE_CHECKING

from prefect import State, task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from pipeline.tracking.record import Record

if TYPE_CHECKING:
    from mlflow.entities import Run

INCOMPLETE = "Incomplete"  # a state's name: MLflow failed, and the flow goes on


@task(task_run_name="log to MLflow", cache_policy=NO_CACHE)
def follow_trainings(records: Queue[Record | None]) -> State:
    """Log trainings as they run, and link to their runs; see `live.follow`."""
    while records.empty():  # until a network is training
        time.sleep(0.1)
    from pipeline.tracking.live import follow

    try:
        follow(records, link_to)
    except (OSError, ValueError) as error:
        return Completed(name=INCOMPLETE, message=str(error))
    return Completed()


def link_to(key: str, run: "Run") -> None:
    """Link to a network's run in MLflow from Prefect's UI."""
    from pipeline.tracking.store import ui_url

    address = f"{ui_url()}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    create_link_artifact(address, f"{key} in MLflow", key.replace("_", "-").lower())


@task(task_run_name="record in MLflow")
def record_results() -> State:
    """Record what is in artifacts/; see `runs.record_files`."""
    from pipeline.tracking.runs import record_files
    from pipeline.tracking.store import open_store

    try:
        with open_store() as client:
            record_files(client)
    except (OSError, ValueError) as error:
        return Completed(name=INCOMPLETE, message=str(error))
    return Completed()


def record_or_warn(followed: State | None = None) -> None:
    """Record what is in artifacts/, and print a warning if MLflow failed now or before.

    followed: the last state of `follow_trainings`.
    """
    recorded = record_results(return_state=True)
    if not recorded.is_completed() or recorded.name == INCOMPLETE:
        print(f"warning: {recorded.message}", flush=True)
    elif followed and followed.name == INCOMPLETE:
        print(f"warning: {followed.message}\nThe results are recorded now", flush=True)
