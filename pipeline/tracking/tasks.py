"""The Prefect tasks that record trainings and the study in MLflow. None of them fails its flow:
what MLflow lacks is recorded by the next `dvc repro`.

MLflow takes seconds to import, so they import it themselves, while the networks are training.
"""

import time
from queue import Queue

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run
from prefect.states import Completed, Failed

from pipeline.core.execution import Update
from pipeline.core.provenance import Provenance

RETRIES = 2
INCOMPLETE = "Incomplete"  # a state's name: MLflow failed, and the flow goes on


@task(task_run_name="log to MLflow", cache_policy=NO_CACHE)
def follow_trainings(updates: Queue[Update | None], provenance: Provenance) -> State:
    """Log trainings as they run; see `live.follow`."""
    from pipeline.tracking.live import follow

    try:
        follow(updates, provenance)
    except (OSError, ValueError) as error:
        return Completed(name=INCOMPLETE, message=str(error))
    return Completed()


@task(task_run_name="record in MLflow: {what}", retries=RETRIES, retry_delay_seconds=2)
def record_files(what: str) -> State:
    """Record the "trainings" or the "study" in artifacts/; see `runs.record`. If MLflow refuses
    quickly, it is asked again; one that hangs is not worth another wait."""
    from pipeline.tracking.runs import record_study, record_trainings
    from pipeline.tracking.store import open_store

    start = time.monotonic()
    try:
        with open_store() as client:
            {"trainings": record_trainings, "study": record_study}[what](client)
    except (OSError, ValueError) as error:
        quick = time.monotonic() - start < 2
        if quick and task_run.run_count <= RETRIES:
            return Failed(message=str(error))
        return Completed(name=INCOMPLETE, message=str(error))
    return Completed()


def record_results(what: str, followed: State | None = None) -> None:
    """Record what is in artifacts/, and print a warning if MLflow failed now or before.

    followed: the last state of `follow_trainings`.
    """
    recorded = record_files(what, return_state=True)
    if not recorded.is_completed() or recorded.name == INCOMPLETE:
        print(f"warning: {recorded.message}", flush=True)
    elif followed and followed.name == INCOMPLETE:
        print(f"warning: {followed.message}\nThe {what} are recorded now", flush=True)
