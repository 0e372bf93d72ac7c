"""The Prefect flow that trains every network at the same time, each in a process of its own.

Writes artifacts/metrics.json, losses.png and provenance.json in addition to the trainers' files.
"""

import subprocess
import sys
from functools import partial

from prefect import State, Task, flow, task
from prefect.client.schemas.objects import TaskRun
from prefect.futures import wait
from prefect.states import Completed, Failed

from models import NETWORKS
from pipeline.core import files
from pipeline.core.flows import run_flow
from pipeline.core.history import read_history
from pipeline.core.params import TrainParams, load_params
from pipeline.core.provenance import Provenance
from pipeline.data.load import verified_md5
from pipeline.train.figure import draw_losses


def was_killed(_task: Task, _run: TaskRun, state: State) -> bool:
    """Return whether a signal ended the trainer, which is worth a retry; an error is not."""
    return isinstance(state.result(raise_on_failure=False), ChildProcessError)


@task(task_run_name="train {key}", retries=2, retry_condition_fn=was_killed)
def train_network(key: str, params: TrainParams) -> State:
    """Train one network in a process of its own."""
    command = [sys.executable, "-m", "pipeline.train.trainer", key, params.model_dump_json()]
    done = subprocess.run(command, cwd=files.ROOT)
    if done.returncode < 0:
        raise ChildProcessError(f"signal {-done.returncode} ended the training of {key}")
    if done.returncode > 0:
        return Failed(message=f"the training of {key} failed, see above")
    return Completed()


@task
def compare_networks() -> None:
    """Write every network's last epoch as metrics, and all loss curves as one figure."""
    histories = {key: read_history(files.history_path(key)) for key in NETWORKS}
    last = {key: history[-1]._asdict() for key, history in histories.items()}
    metrics = {
        key: {name: value for name, value in row.items() if name not in ("epoch", "seconds")}
        for key, row in last.items()
    }
    files.write_json(files.METRICS, metrics)
    files.write_atomically(files.LOSSES_FIGURE, draw_losses(histories))


@flow(name="train")
def train_networks(params: TrainParams) -> State:
    """Train all networks at the same time, then compare them."""
    trainings = [train_network.submit(key, params) for key in NETWORKS]
    wait(trainings)
    for training in trainings:
        if not training.state.is_completed():
            return Failed(message=training.state.message)
    return compare_networks(return_state=True)


def run() -> None:
    """Run the flow with the parameters that the provenance has; see `run_flow`."""
    params = load_params().train
    provenance = Provenance.take(params, verified_md5())
    run_flow(partial(train_networks, params))
    provenance.write(files.PROVENANCE)
