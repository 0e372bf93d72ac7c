"""The Prefect flow that trains every network at the same time, each in a process of its own, and
records each training in MLflow as it runs.

In addition to the trainers' files, it writes losses.png and provenance.json in artifacts/, an
execution.json and a summary of the answers per network, and metrics/test_accuracy.json.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from queue import Queue

from prefect import State, Task, flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import wait
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from models import NETWORKS
from pipeline.core import files
from pipeline.core.execution import Execution, Update
from pipeline.core.flows import run_flow
from pipeline.core.history import Epoch, read_history
from pipeline.core.params import TrainParams, load_params
from pipeline.core.provenance import Provenance
from pipeline.core.stage import check_inputs
from pipeline.data.load import verified_md5
from pipeline.tracking.tasks import follow_trainings, record_results
from pipeline.train.answers import sum_up
from pipeline.train.bars import bars, describe
from pipeline.train.figure import draw_losses


def was_killed(_task: Task, _run: TaskRun, state: State) -> bool:
    """Return whether a signal ended the trainer, which is worth a retry; an error and Ctrl-C are
    not."""
    return state.name == "Killed"


@task(
    task_run_name="train {key}",
    retries=2,
    retry_condition_fn=was_killed,
    cache_policy=NO_CACHE,
)
def train_network(key: str, params: TrainParams, report: Callable[[Update], None]) -> State:
    """Train one network in a process of its own, and report its start, every epoch and its end."""
    log = get_run_logger()
    log.info("training %s with %s", NETWORKS[key].title, params)
    update = Update(key, Execution.start())
    report(update)
    command = [sys.executable, "-m", "pipeline.train.trainer", key, params.model_dump_json()]
    message = ""
    with subprocess.Popen(
        command, cwd=files.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as trainer:
        for line in trainer.stdout or ():
            if row := read_row(line):
                update = update.add(row)
                report(update)
                log.info("epoch %d/%d: %s", row.epoch, params.epochs, describe(row))
            else:
                message = line.strip()
                log.info(message)
    if trainer.returncode == 0:
        update.execution.write(files.execution_path(key), files.weights_path(key))
        return Completed()
    killed = trainer.returncode < 0
    report(update._replace(status="KILLED" if killed else "FAILED"))
    if not killed:
        return Failed(message=message.removeprefix("error: "))
    interrupted = trainer.returncode == -signal.SIGINT
    message = f"signal {-trainer.returncode} ended the training of {key}"
    return Failed(name="Interrupted" if interrupted else "Killed", message=message)


def read_row(line: str) -> Epoch | None:
    """Return the epoch that a line of the trainer holds, or None if it is a message."""
    try:
        return Epoch(**json.loads(line))
    except (ValueError, TypeError):
        return None


@task
def compare_networks() -> None:
    """Write the accuracies, all loss curves as one figure, and a summary of each one's answers."""
    for key in NETWORKS:
        sum_up(key)
    histories = {key: read_history(files.history_path(key)) for key in NETWORKS}
    last = {key: history[-1] for key, history in histories.items()}
    files.write_json(files.ACCURACY, {key: row.test_accuracy for key, row in last.items()})
    files.write_atomically(files.LOSSES_FIGURE, draw_losses(histories))
    table = [{"network": key, **row._asdict()} for key, row in last.items()]
    create_table_artifact(table, "networks", "The networks after their last epoch")


@flow(name="train")
def train_networks(params: TrainParams, provenance: Provenance) -> State:
    """Train all networks at the same time and record each in MLflow, then compare them."""
    updates: Queue[Update | None] = Queue()
    last: dict[str, Update] = {}

    def report(update: Update) -> None:
        last[update.key] = update
        updates.put(update)

    following = follow_trainings.submit(updates, provenance)
    state: State = Failed()
    try:
        state = train_and_compare(params, provenance, report)
    finally:
        for update in last.values():
            if not state.is_completed() and update.status == "RUNNING":
                updates.put(update._replace(status="FAILED"))
        updates.put(None)  # or the task that follows would wait forever
    wait([following])
    if state.is_completed():
        record_results("trainings", following.state)
    return state


def train_and_compare(
    params: TrainParams, provenance: Provenance, report: Callable[[Update], None]
) -> State:
    """Train the networks, compare them and write the provenance, if all of that succeeds."""
    with bars(params.epochs) as show:

        def show_and_report(update: Update) -> None:
            show(update)
            report(update)

        trainings = [train_network.submit(key, params, show_and_report) for key in NETWORKS]
        try:
            wait(trainings)
        finally:
            wait(trainings)  # after Ctrl-C, which ends the trainers too
    for training in trainings:
        if not training.state.is_completed():
            return Failed(message=training.state.message)
    compared = compare_networks(return_state=True)
    if not compared.is_completed():
        return compared
    try:
        check_inputs("train")  # or the lineage would be wrong
    except ValueError as error:
        return Failed(message=str(error))
    provenance.write(files.PROVENANCE)
    return Completed()


def run() -> None:
    """Run the flow with the parameters that the provenance has; see `run_flow`."""
    params = load_params().train
    provenance = Provenance.take(params, verified_md5())
    run_flow(partial(train_networks, params, provenance))
