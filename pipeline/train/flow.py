"""The Prefect flow that trains every network at the same time, each in a process of its own.

It records each training in MLflow as it runs, and writes the tables, pictures and provenance.
"""

import json
import signal
from collections.abc import Callable
from importlib import import_module
from queue import Queue
from typing import Any

from prefect import State, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import Epoch, write_history
from pipeline.core.provenance import Provenance
from pipeline.core.stage import check_inputs
from pipeline.tracking.record import Record, epoch_points
from pipeline.tracking.tasks import follow_trainings, record_or_warn
from pipeline.train.bars import bars, describe
from pipeline.train.trainers import Answers, Trainers

Report = Callable[[Record, Epoch | None], None]  # takes a record and the epoch that was added to it


@task(
    task_run_name="train {key}",
    retries=2,
    retry_condition_fn=lambda _task, _run, state: state.name == "Killed",  # and not by Ctrl-C
    cache_policy=NO_CACHE,
)
def train_network(key: str, trainers: Trainers, report: Report) -> State:
    """Train one network in a process of its own, and report its start, every epoch and its end."""
    process, record = trainers.take(key)
    params, history, answers, message = record.provenance.params, [], [], ""
    log = get_run_logger()
    log.info("training %s with %s", NETWORKS[key].title, params)
    report(record, None)
    with process:
        for line in process.stdout or ():
            printed = read_line(line)
            if "epoch" in printed:
                row = Epoch(*printed["epoch"])
                history.append(row)
                record = record.add(epoch_points(row, printed["time_ms"]))
                report(record, row)
                log.info(describe(row, params["epochs"]))
            elif "answers" in printed:
                answers = printed["answers"]
            else:
                message = line.strip()
                log.info(message)
    if process.returncode == 0:
        import_module("pipeline.train.results")  # takes a second: while another network trains

        return Completed(data=(record, history, answers))
    killed = process.returncode < 0
    report(record.end("KILLED" if killed else "FAILED"), None)
    if not killed:
        return Failed(message=message.removeprefix("error: "))
    interrupted = process.returncode == -signal.SIGINT
    message = f"signal {-process.returncode} ended the training of {key}"
    return Failed(name="Interrupted" if interrupted else "Killed", message=message)


def read_line(line: str) -> dict[str, Any]:
    """Return what the trainer printed as JSON, empty if the line is a message."""
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


@task(task_run_name="compare networks", cache_policy=NO_CACHE)
def compare_networks(histories: dict[str, list[Epoch]], answers: dict[str, Answers]) -> None:
    """Write the accuracies, the tables of all networks and their pictures."""
    from pipeline.train.results import write_figures, write_predictions

    write_history(histories)
    write_predictions(answers)
    write_figures(histories, answers)
    accuracies = {key: history[-1].test_accuracy for key, history in histories.items()}
    files.write_json(files.ACCURACY, accuracies)


@flow(name="train")
def train_networks(provenance: Provenance, trainers: Trainers) -> State:
    """Train all networks at the same time and record each in MLflow, then compare them."""
    records: Queue[Record | None] = Queue()
    last: dict[str, Record] = {}
    following = follow_trainings.submit(records)
    state: State = Failed()
    try:
        with bars(provenance.params["epochs"]) as show:

            def report(record: Record, row: Epoch | None) -> None:
                show(record.key, row)
                last[record.key] = record
                records.put(record)

            state = train_and_compare(provenance, trainers, report)
    finally:
        for record in last.values():
            if not state.is_completed() and record.status == "RUNNING":
                records.put(record.end("FAILED"))
        records.put(None)  # or the task that follows would wait forever
    wait([following])
    if state.is_completed():
        record_or_warn(following.state)
    return state


def train_and_compare(provenance: Provenance, trainers: Trainers, report: Report) -> State:
    """Train and compare the networks; if all of that succeeds, write provenance and records."""
    trainings = {key: train_network.submit(key, trainers, report) for key in NETWORKS}
    try:
        wait([*trainings.values()])
    finally:
        wait([*trainings.values()])  # after Ctrl-C, which ends the trainers too
    for training in trainings.values():
        if not training.state.is_completed():
            return Failed(message=training.state.message)
    trained: dict[str, Any] = {key: training.result() for key, training in trainings.items()}
    histories = {key: history for key, (_, history, _) in trained.items()}
    answers = {key: its_answers for key, (_, _, its_answers) in trained.items()}
    compared = compare_networks(histories, answers, return_state=True)
    if not compared.is_completed():
        return compared
    try:
        check_inputs("train")  # or the lineage would be wrong
    except ValueError as error:
        return Failed(message=str(error))
    for record, _, _ in trained.values():
        record.write()
    provenance.write()  # the last: it says that the rest is there
    return Completed()
