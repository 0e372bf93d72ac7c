"""The Prefect tasks that record trainings and the study in MLflow. None of them fails its flow: the
next `dvc repro` records what is missing. MLflow takes seconds to import, so they import it
themselves, while the networks are training."""

import time
from queue import Queue

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from pipeline.tracking.record import Record

INCOMPLETE = "Incomplete"  # a state's name: MLflow failed, and the flow goes on


@task(task_run_name="log to MLflow", cache_policy=NO_CACHE)
def follow_trainings(records: Queue[Record | None]) -> State:
    """Log trainings as they run; see `live.follow`."""
    while records.empty():  # until a network is training
        time.sleep(0.1)
    from pipeline.tracking.live import follow

    try:
        follow(records)
    except (OSError, ValueError) as error:
        return Completed(name=INCOMPLETE, message=str(error))
    return Completed()


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
