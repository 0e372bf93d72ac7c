"""The Prefect flow that trains both networks at once: `python -m pipeline.flow`.

Each task runs `python -m pipeline.train <key>` in a process of its own; then both histories make
artifacts/metrics.json and artifacts/losses.png. artifacts/provenance.json says where it began.
"""

import json
import subprocess
import sys
from typing import Any

from prefect import State, flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.futures import wait
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Completed, Failed

from pipeline.artifacts import KEYS, LOSSES, METRICS, PROVENANCE, ROOT, history_path, write_whole
from pipeline.figure import draw_losses
from pipeline.history import read_history
from pipeline.params import load_params
from pipeline.provenance import take_provenance, write_provenance


def was_killed(_task: Any, _run: Any, state: State) -> bool:
    """Tell a training that a signal ended, worth another try, from one that gave up."""
    return isinstance(state.result(raise_on_failure=False), ChildProcessError)


@task(task_run_name="train {key}", retries=2, retry_condition_fn=was_killed)
def train_network(key: str) -> State:
    """Train one network in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "pipeline.train", key], cwd=ROOT)
    if done.returncode < 0:
        raise ChildProcessError(f"signal {-done.returncode} ended the training of {key}")
    if done.returncode > 0:
        return Failed(message=f"the training of {key} gave up, see above")
    return Completed()


@task
def compare_networks() -> None:
    """Write the last epoch of both networks as metrics and both loss curves as a picture."""
    histories = {key: read_history(history_path(key)) for key in KEYS}
    metrics = {
        key: {
            "train_loss": history[-1].train_loss,
            "test_loss": history[-1].test_loss,
            "test_accuracy": history[-1].test_accuracy,
        }
        for key, history in histories.items()
    }
    write_whole(METRICS, json.dumps(metrics, indent=2).encode())
    write_whole(LOSSES, draw_losses(histories))


@flow(name="train")
def train_networks() -> State:
    """Train both networks at the same time, then compare them."""
    trainings = [train_network.submit(key) for key in KEYS]
    wait(trainings)
    for training in trainings:
        if not training.state.is_completed():
            return Failed(message=training.state.message)
    return compare_networks(return_state=True)


@flow(name="promote")
def show_promotion() -> State:
    """Show the report in Markdown that comes by standard input among Prefect's artifacts."""
    report = sys.stdin.read()
    if not report:
        return Failed(message="promote gave up, see its output")
    create_markdown_artifact(report, key="promotion")
    return Completed()


def main() -> None:
    """Run the flow once; Prefect starts a server of its own unless PREFECT_API_URL names one."""
    if sys.argv[1:] == ["promote"]:  # pipeline/promote.py's
        # A flow ends by waiting up to a second for its heart to beat.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            show_promotion(return_state=True)
        return
    try:
        provenance = take_provenance(load_params().train)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    state = train_networks(return_state=True)
    if not state.is_completed():
        sys.exit(f"error: {state.message}")
    write_provenance(PROVENANCE, provenance)


if __name__ == "__main__":
    main()
