"""The Prefect flow of the study: one task per experiment and seed, several at once.

The tasks run as processes of this machine, or on the Dask cluster whose scheduler the environment
variable STUDY_DASK_SCHEDULER names. They return tables; only the flow writes files.
"""

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from prefect import State, flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.futures import as_completed
from prefect.states import Completed, Failed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner
from tqdm import tqdm

from pipeline.core.params import StudyParams, load_params
from pipeline.core.provenance import Provenance
from pipeline.core.stage import check_inputs
from pipeline.data.load import load_dataset, verified_md5
from pipeline.study.experiments import EXPERIMENTS, Tables, gather
from pipeline.study.report import write_report
from pipeline.tracking.record import Record, now_ms, verdict_points
from pipeline.tracking.tasks import record_or_warn
from pipeline.train.loop import choose_device


def end_with_parent() -> None:
    """Make this worker end when the flow does, even if the flow is killed."""

    def wait() -> None:
        flow_process = multiprocessing.parent_process()
        assert flow_process
        flow_process.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Raise KeyboardInterrupt only once the body has ended; workers that it starts never do.

    They inherit the signal mask, or else Ctrl-C would make each of them print a traceback. In this
    process the mask is not enough: any thread without it may receive the signal.
    """
    received: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: received.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, handler)
    if received:
        raise KeyboardInterrupt


def task_runner() -> TaskRunner[Any]:
    """Return what runs the tasks; Dask's package is imported only if it is used."""
    scheduler = os.environ.get("STUDY_DASK_SCHEDULER")
    if not scheduler:
        return ProcessPoolTaskRunner(initializer=end_with_parent)
    from prefect_dask import DaskTaskRunner

    return DaskTaskRunner(address=scheduler)


@task(task_run_name="{experiment}, seed {seed}")
def measure(experiment: str, seed: int, params: StudyParams) -> Tables:
    """Run one experiment for one seed, on one thread so that the numbers are always the same."""
    torch.set_num_threads(1)
    device = choose_device(params.device, "study.device")
    return EXPERIMENTS[experiment](seed, params, load_dataset(), device)


@task
def report(tables: Tables, params: StudyParams) -> None:
    """Write the tables and the report on them, which is also an artifact in Prefect's UI."""
    text = write_report(tables, params)
    text = re.sub(r"!\[(.*)\]\(.*\)", r"*Figure: \1, in report.html*", text)
    create_markdown_artifact(text, "study-report", "The report, without its figures")


@flow(name="study", task_runner=task_runner())
def study() -> State:
    """Run all experiments for all seeds, write the report, and record it in MLflow."""
    params = load_params().study
    record = Record.start("study", Provenance.take("study", params, verified_md5()))
    jobs = [(experiment, seed) for experiment in EXPERIMENTS for seed in range(params.seeds)]
    try:
        with interrupts_deferred():
            futures = [measure.submit(*job, params) for job in jobs]
        for future in tqdm(as_completed(futures), "study", len(futures), disable=None, unit="task"):
            future.result()  # the first failure ends the flow
    except KeyboardInterrupt:
        for worker in multiprocessing.active_children():
            worker.kill()  # or the runner would wait for its task
        raise
    tables = gather([future.result() for future in futures])
    reported = report(tables, params, return_state=True)
    if not reported.is_completed():
        return reported
    try:
        check_inputs("study")  # or the lineage would be wrong
    except ValueError as error:
        return Failed(message=str(error))
    record.add(verdict_points(now_ms())).write()
    record.provenance.write()  # the last: it says that the rest is there
    record_or_warn()
    return Completed()
