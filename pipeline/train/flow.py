"""The Prefect flow that trains all networks, each in a process of its own.

It records each training in MLflow as it runs, and writes the tables, pictures and provenance.
"""

import json
import re
import shutil
import signal
from collections.abc import Callable
from importlib import import_module
from queue import Queue
from typing import Any, cast

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
from pipeline.train.finished import Answers, Finished
from pipeline.train.trainers import Trainers

ERROR = re.compile("^error: ", re.MULTILINE)  # before the reason why a trainer ends
Report = Callable[[Record, Epoch | None], None]  # takes a record and the epoch that was added to it


@task(
    task_run_name="train {key}",
    retries=2,
    retry_condition_fn=lambda _task, _run, state: state.name == "Killed",  # and not by Ctrl-C
    cache_policy=NO_CACHE,
)
def train_network(key: str, trainers: Trainers, report: Report) -> State:
    """Train one network in a process of its own, and report its start, every epoch and its end."""
    if finished := trainers.finished.get(key):
        print(f"{NETWORKS[key].title} is already trained: its training is taken as it is")
        report(finished.record, finished.history[-1])
        return Completed(data=finished)
    with trainers.place(key):
        return follow(key, trainers, report)


def follow(key: str, trainers: Trainers, report: Report) -> State:
    """Follow a trainer from its start to its end; see `train_network`."""
    if not (trainer := trainers.take(key)):
        return Failed(name="Interrupted", message=f"interrupted before the training of {key}")
    process, record = trainer
    params, history, answers, text = trainers.params(key), [], [], ""
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
            elif line.strip():
                text += line
                log.info(line.rstrip())
    if process.returncode == 0:
        try:
            check_inputs("train")  # or what is kept could be of other code than its provenance says
        except ValueError as error:
            return Failed(message=str(error))
        finished = Finished(record=record, history=history, answers=answers)
        finished.keep()
        import_module("pipeline.train.results")  # takes a second: while another network trains
        return Completed(data=finished)
    killed = process.returncode < 0
    report(record.end("KILLED" if killed else "FAILED"), None)
    if not killed:
        return Failed(message=ERROR.split(text, maxsplit=1)[-1].strip())
    trainers.interrupted |= process.returncode == -signal.SIGINT
    message = f"signal {-process.returncode} ended the training of {key}"
    return Failed(name="Interrupted" if trainers.interrupted else "Killed", message=message)


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
    last = {key: history[-1] for key, history in histories.items()}
    accuracy = {key: row.validation_accuracy for key, row in last.items()}
    validated = {key: value for key, value in accuracy.items() if value is not None}
    accuracies = {key: row.test_accuracy for key, row in last.items()}
    files.write_json(files.ACCURACY, accuracies | ({"validation": validated} if validated else {}))


@flow(name="train")
def train_networks(provenance: Provenance, trainers: Trainers) -> State:
    """Train all networks and record each in MLflow, then compare them."""
    records: Queue[Record | None] = Queue()
    last: dict[str, Record] = {}
    following = follow_trainings.submit(records)
    state: State = Failed()
    try:
        with bars({key: trainers.params(key)["epochs"] for key in NETWORKS}) as show:

            def report(record: Record, row: Epoch | None) -> None:
                show(record.key, row)
                if record.key not in trainers.finished:  # whose run in MLflow is there
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
        trainers.interrupted = True
        wait([*trainings.values()])  # after Ctrl-C, which ends the trainers too
    for training in trainings.values():
        if not training.state.is_completed():
            return Failed(message=training.state.message)
    trained = {key: cast(Finished, training.result()) for key, training in trainings.items()}
    histories = {key: finished.history for key, finished in trained.items()}
    answers = {key: finished.answers for key, finished in trained.items()}
    for finished in trained.values():
        finished.publish()
    compared = compare_networks(histories, answers, return_state=True)
    if not compared.is_completed():
        return compared
    try:
        check_inputs("train")  # or the lineage would be wrong
    except ValueError as error:
        return Failed(message=str(error))
    provenance.write()  # the last: it says that the rest is there
    shutil.rmtree(files.ARTIFACTS / "partial")
    return Completed()
