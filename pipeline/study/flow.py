"""The Prefect flow of the study: one task for each experiment and seed, several at once.

The tasks run as processes of this machine, or on the Dask cluster whose scheduler the environment
variable STUDY_DASK_SCHEDULER names. They give back tables; only the flow writes files.
"""

import multiprocessing
import os
import sys
import threading
from typing import Any

import pandas as pd
import torch
from prefect import State, flow, get_client, task
from prefect.futures import as_completed
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner
from tqdm import tqdm

from pipeline.artifacts import STUDY_PROVENANCE
from pipeline.data import load_mnist
from pipeline.params import StudyParams, load_params
from pipeline.provenance import take_provenance, write_provenance
from pipeline.study.experiments import EXPERIMENTS, gather
from pipeline.study.report import write_report, write_table
from pipeline.train import choose_device


def end_with_parent() -> None:
    """Make this worker end when the flow does, even if the flow is killed."""

    def wait() -> None:
        flow_process = multiprocessing.parent_process()
        assert flow_process
        flow_process.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def task_runner() -> TaskRunner[Any]:
    """Return what runs the tasks; Dask's package is only needed where it is asked for."""
    scheduler = os.environ.get("STUDY_DASK_SCHEDULER")
    if not scheduler:
        return ProcessPoolTaskRunner(initializer=end_with_parent)
    from prefect_dask import DaskTaskRunner

    return DaskTaskRunner(address=scheduler)


@task(task_run_name="{experiment}, seed {seed}")
def measure(experiment: str, seed: int, params: StudyParams) -> dict[str, pd.DataFrame]:
    """Run one experiment for one seed on one thread, so that the numbers are always the same."""
    torch.set_num_threads(1)
    device = choose_device(params.device, "study.device")
    return EXPERIMENTS[experiment](seed, params, load_mnist(), device)


@task
def report(tables: dict[str, pd.DataFrame], params: StudyParams) -> None:
    """Write the tables and what they say."""
    for name, table in tables.items():
        write_table(name, table)
    write_report(params)


@flow(name="study", task_runner=task_runner())
def study() -> State:
    """Run all experiments for all seeds, then write the report."""
    params = load_params().study
    provenance = take_provenance(params)
    jobs = [(experiment, seed) for experiment in EXPERIMENTS for seed in range(params.seeds)]
    futures = [measure.submit(*job, params) for job in jobs]
    for future in tqdm(as_completed(futures), "study", len(futures), disable=None, unit="task"):
        future.result()  # the first failure ends the flow
    tables = gather([future.result() for future in futures])
    write_provenance(STUDY_PROVENANCE, provenance)
    return report(tables, params, return_state=True)


def main() -> None:
    """Run the flow once; Prefect starts a server of its own unless PREFECT_API_URL names one."""
    try:
        load_params()
    except ValueError as error:
        sys.exit(f"error: {error}")
    server = str(get_client(sync_client=True).api_url)
    with temporary_settings({PREFECT_API_URL: server}):  # or each worker starts one of its own
        state = study(return_state=True)
    if not state.is_completed():
        scheduler = os.environ.get("STUDY_DASK_SCHEDULER")
        hint = f" (STUDY_DASK_SCHEDULER is {scheduler!r})" if scheduler else ""
        sys.exit(f"error: {state.message}{hint}")


if __name__ == "__main__":
    main()
