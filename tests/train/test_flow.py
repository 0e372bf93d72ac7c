"""The flow of the stage `train` with trainers that only pretend, and a real store of MLflow."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterTaskRunId
from prefect.logging.handlers import APILogWorker

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import Epoch, read_history
from pipeline.core.params import load_params
from pipeline.core.provenance import Provenance
from pipeline.data.dataset import pinned_md5
from pipeline.tracking.record import read_record
from pipeline.train import flow, trainers
from pipeline.train.finished import find_finished
from pipeline.train.trainers import Trainers
from tests.support import empty_store, free_port, write_below

PARAMS = load_params().train
PROVENANCE = Provenance.take("train", PARAMS, pinned_md5())
HISTORY = [Epoch(1, 0.5, 0.4, 0.9), Epoch(2, 0.3, 0.2, 0.95)]
TRAINER = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own may come too late to end the process
for time_ms, row in enumerate(json.loads(sys.argv[1]), 1000):
    print(json.dumps({"epoch": row, "time_ms": time_ms}), flush=True)
status = int(sys.argv[2])
if status > 0:
    sys.exit("error: lower train.lr")
if status < 0:
    os.kill(os.getpid(), -status)
print(json.dumps({"answers": [[0, 0], [1, 2]]}))
"""
pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what the flow writes, and an empty store."""
    write_below(tmp_path, monkeypatch)
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    (tmp_path / "store.db").write_bytes(empty_store())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store.db")
    return tmp_path


@pytest.fixture
def statuses(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How each start of a trainer will end, by network."""
    statuses: dict[str, list[int]] = {key: [0] for key in NETWORKS}
    popen = subprocess.Popen

    def start(command: list[str], **options: object) -> subprocess.Popen[str]:
        if "pipeline.train.trainer" not in command:
            return popen(command, **options)  # type: ignore[call-overload]
        key, status = command[-2], statuses[command[-2]].pop(0)
        if status == 0:
            files.write_atomically(files.partial_path(key, "safetensors"), key.encode())
        rows = json.dumps(HISTORY)
        return popen([sys.executable, "-c", TRAINER, rows, str(status)], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", start)
    return statuses


def run_flow() -> State:
    return flow.train_networks(PROVENANCE, Trainers(PROVENANCE), return_state=True)


def runs(artifacts: Path) -> list[tuple[str, str, int]]:
    """Return name, status and number of epochs of each run in MLflow."""
    client = MlflowClient(f"sqlite:///{artifacts}/store.db")
    return sorted(
        (
            str(run.info.run_name),
            run.info.status,
            len(client.get_metric_history(run.info.run_id, "train_loss")),
        )
        for run in client.search_runs(["1"])
    )


def test_every_network_is_trained_and_recorded(
    statuses: dict[str, list[int]], artifacts: Path
) -> None:
    assert run_flow().is_completed()
    assert statuses == {key: [] for key in NETWORKS}
    assert runs(artifacts) == sorted((key, "FINISHED", 2) for key in NETWORKS)
    assert files.read_json(files.ACCURACY, "train") == dict.fromkeys(NETWORKS, 0.95)
    assert read_history() == dict.fromkeys(NETWORKS, HISTORY)
    header, *rows = files.PREDICTIONS.read_text().splitlines()
    assert header == "network,label,prediction"
    assert rows == [f"{key},{answer}" for key in NETWORKS for answer in ("0,0", "1,2")]
    assert Provenance.read("train") == PROVENANCE
    for key in NETWORKS:
        record = read_record("train", key)
        assert record.id
        assert {(point.step, point.time_ms) for point in record.points} == {(1, 1000), (2, 1001)}
        assert files.confusion_path(key).read_bytes().startswith(b"\x89PNG")


def test_trainers_end_if_prefect_does_not_start(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen, started = subprocess.Popen, []

    def start(command: list[str], **options: object) -> subprocess.Popen[str]:
        started.append(popen(command, **options))  # type: ignore[call-overload]
        return started[-1]

    def fail(*_arguments: object) -> None:
        raise ConnectionError("Prefect failed")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(trainers, "run_flow", fail)
    with pytest.raises(ConnectionError):
        trainers.run()
    ended = [process.returncode for process in started if "pipeline.train.trainer" in process.args]
    assert ended == [-signal.SIGKILL] * len(NETWORKS)


def test_what_dvc_hashes_is_the_same_from_the_same_training(
    statuses: dict[str, list[int]], artifacts: Path
) -> None:
    def digests() -> dict[str, str]:
        written = (artifacts / "artifacts/train").iterdir()
        return {path.name: files.sha256(path) for path in written}

    run_flow()
    first = digests()
    statuses.update({key: [0] for key in NETWORKS})
    run_flow()
    assert digests() == first


def test_each_run_in_mlflow_has_its_link_in_prefect(statuses: dict[str, list[int]]) -> None:
    state = run_flow()
    with get_client(sync_client=True) as client:
        found = [
            artifact
            for artifact in client.read_artifacts()
            if artifact.flow_run_id == state.state_details.flow_run_id
            and "in MLflow" in str(artifact.data)
        ]
    assert sorted(str(link.key) for link in found) == ["batchnorm-mlp", "simple-mlp"]
    assert all("5000/#/experiments/1/runs/" in str(link.data) for link in found)


def logs_of(flow_run: UUID) -> dict[str, list[str]]:
    """Return the lines in Prefect's log of each task, by its name."""
    with get_client(sync_client=True) as client:
        tasks = [task for task in client.read_task_runs() if task.flow_run_id == flow_run]
        return {
            task.name: [
                line.message
                for line in client.read_logs(
                    LogFilter(task_run_id=LogFilterTaskRunId(any_=[task.id]))
                )
            ]
            for task in tasks
        }


def test_the_epochs_are_in_the_log_of_the_networks_task(statuses: dict[str, list[int]]) -> None:
    state = run_flow()
    APILogWorker.drain_all()
    assert state.state_details.flow_run_id
    logs = logs_of(state.state_details.flow_run_id)
    assert set(logs) > {"log to MLflow", "record in MLflow", "compare networks"}
    for key in NETWORKS:
        assert any(f"'lr': {PARAMS.lr}" in line for line in logs[f"train {key}"])
        assert any(line.startswith(f"epoch 2/{PARAMS.epochs}: ") for line in logs[f"train {key}"])


def test_a_trainer_that_a_signal_ended_is_started_again_as_another_run(
    statuses: dict[str, list[int]], artifacts: Path
) -> None:
    statuses["simple_mlp"] = [-9, 0]
    assert run_flow().is_completed()
    assert statuses == {key: [] for key in NETWORKS}
    assert runs(artifacts) == [
        ("batchnorm_mlp", "FINISHED", 2),
        ("simple_mlp", "FINISHED", 2),
        ("simple_mlp", "KILLED", 2),
    ]


def test_a_trainer_that_ctrl_c_ended_is_not_started_again(
    statuses: dict[str, list[int]], artifacts: Path
) -> None:
    statuses["simple_mlp"] = [-2, 0]
    assert run_flow().is_failed()
    assert statuses["simple_mlp"] == [0]
    assert ("simple_mlp", "KILLED", 2) in runs(artifacts)


def test_a_trainer_that_failed_fails_the_flow_at_once(
    statuses: dict[str, list[int]], artifacts: Path
) -> None:
    statuses["batchnorm_mlp"] = [1, 0]
    state = run_flow()
    assert state.is_failed()
    assert state.message == "lower train.lr"
    assert statuses["batchnorm_mlp"] == [0]
    assert runs(artifacts) == sorted((key, "FAILED", 2) for key in NETWORKS)
    assert not files.provenance_path("train").exists()


@pytest.mark.parametrize("status", [1, -signal.SIGINT])
def test_the_training_of_one_that_fails_is_repeated_alone(
    statuses: dict[str, list[int]], artifacts: Path, status: int
) -> None:
    statuses["batchnorm_mlp"] = [status]
    assert run_flow().is_failed()
    shutil.rmtree(artifacts / "artifacts/train", ignore_errors=True)  # as DVC does
    statuses.update({"simple_mlp": [], "batchnorm_mlp": [0]})
    assert run_flow().is_completed()
    assert read_history() == dict.fromkeys(NETWORKS, HISTORY)
    assert {files.weights_path(key).read_text() for key in NETWORKS} == set(NETWORKS)
    failed = ("batchnorm_mlp", "FAILED" if status > 0 else "KILLED", 2)
    assert runs(artifacts) == sorted([failed, *((key, "FINISHED", 2) for key in NETWORKS)])
    assert not (artifacts / "artifacts/partial").exists()
    statuses.update({key: [0] for key in NETWORKS})
    assert run_flow().is_completed()  # of which nothing is kept
    assert statuses == {key: [] for key in NETWORKS}


@pytest.mark.parametrize("change", ["provenance", "weights", "record"])
def test_a_training_of_other_inputs_or_with_a_damaged_file_is_not_taken(
    statuses: dict[str, list[int]], artifacts: Path, change: str
) -> None:
    statuses["batchnorm_mlp"] = [1]
    assert run_flow().is_failed()
    provenance = PROVENANCE
    if change == "provenance":
        provenance = PROVENANCE.model_copy(update={"data_md5": "0123.dir"})
    else:
        ending = {"weights": "safetensors", "record": "json"}[change]
        files.partial_path("simple_mlp", ending).write_bytes(b"")
    assert not find_finished("simple_mlp", provenance)


def test_no_more_networks_are_trained_at_a_time_than_there_are_cores_for(
    statuses: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    two_threads = Provenance.take("train", PARAMS.model_copy(update={"threads": 2}), pinned_md5())
    started = Trainers(two_threads)
    assert statuses == {"simple_mlp": [], "batchnorm_mlp": [0]}
    assert flow.train_networks(two_threads, started, return_state=True).is_completed()
    assert statuses == {key: [] for key in NETWORKS}


def test_after_ctrl_c_no_other_network_is_trained(
    statuses: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    statuses["simple_mlp"] = [-signal.SIGINT]
    assert run_flow().is_failed()
    assert statuses["batchnorm_mlp"] == [0]


def test_a_flow_whose_inputs_changed_records_no_finished_run(
    statuses: dict[str, list[int]], artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_stage: str) -> None:
        raise ValueError("models/mlp.py changed")

    monkeypatch.setattr(flow, "check_inputs", fail)
    state = run_flow()
    assert state.message == "models/mlp.py changed"
    assert {status for _, status, _ in runs(artifacts)} == {"FAILED"}
    assert not files.provenance_path("train").exists()


def test_without_mlflow_the_flow_completes_with_one_warning(
    statuses: dict[str, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert run_flow().is_completed()
    output = capsys.readouterr().out
    assert output.count("warning: ") == 1
    assert "Nothing is lost: run the same command again when it is back" in output
