"""Trainings that send their epochs to MLflow, in a store of the test's own."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Queue
from typing import Any, Literal

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Run

from pipeline.core import files
from pipeline.core.history import Epoch
from pipeline.core.provenance import Provenance
from pipeline.tracking.live import follow
from pipeline.tracking.record import Record, epoch_points
from tests.support import empty_store

ROWS = [Epoch(1, 1.0, 0.5, 0.9), Epoch(2, 0.5, 0.25, 0.95), Epoch(3, 0.4, 0.2, 0.96)]
PARAMS = {"epochs": 3, "batch_size": 64, "lr": 0.01, "seed": 0, "device": "cpu"}
PROVENANCE = Provenance(stage="train", data_md5="0123.dir", params=PARAMS, code={})


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    (tmp_path / "store.db").write_bytes(empty_store())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store.db")
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    return MlflowClient(f"sqlite:///{tmp_path}/store.db")


@pytest.fixture
def records(client: MlflowClient) -> Iterator[Queue[Record | None]]:
    """What is put here is sent to MLflow."""
    records: Queue[Record | None] = Queue()
    following = threading.Thread(target=follow, args=(records, ignore))
    following.start()
    yield records
    records.put(None)
    following.join()


def ignore(_key: str, _run: Run) -> None: ...


def seen(client: MlflowClient, epochs: int, status: str = "RUNNING") -> bool:
    """Wait until MLflow has one run with so many epochs and that status."""
    for _ in range(100):
        runs = client.search_runs(["1"])
        if len(runs) == 1 and runs[0].info.status == status:
            history = client.get_metric_history(runs[0].info.run_id, "test_accuracy")
            if [m.value for m in history] == [row.test_accuracy for row in ROWS[:epochs]]:
                return True
        time.sleep(0.1)
    return False


def test_a_run_begins_with_its_training_and_each_epoch_is_there_when_it_ends(
    client: MlflowClient, records: Queue[Record | None]
) -> None:
    record = Record.start("simple_mlp", PROVENANCE)
    records.put(record)
    assert seen(client, 0)
    for row in ROWS:
        record = record.add(epoch_points(row, 1000 * row.epoch))
        records.put(record)
        assert seen(client, row.epoch)
    (run,) = client.search_runs(["1"])
    assert run.info.run_name == "simple_mlp"
    assert run.data.params == {"network": "simple_mlp"} | {k: str(v) for k, v in PARAMS.items()}
    assert len(run.inputs.dataset_inputs) == 2


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_training_that_fails_or_is_killed_ends_its_run(
    client: MlflowClient, records: Queue[Record | None], status: Literal["FAILED", "KILLED"]
) -> None:
    record = Record.start("simple_mlp", PROVENANCE).add(epoch_points(ROWS[0], 0))
    records.put(record)
    records.put(record.end(status))
    assert seen(client, 1, status)


def test_epochs_that_wait_are_sent_at_once(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    log_batch = MlflowClient.log_batch

    def count(self: MlflowClient, run_id: str, metrics: Sequence[Metric] = (), **more: Any) -> Any:
        sent.append(len(metrics))
        return log_batch(self, run_id, metrics, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", count)
    records: Queue[Record | None] = Queue()
    record = Record.start("simple_mlp", PROVENANCE)
    for row in ROWS:
        record = record.add(epoch_points(row, 1000 * row.epoch))
        records.put(record)
    records.put(None)
    follow(records, ignore)
    metrics = sum(len(epoch_points(row, 0)) for row in ROWS)
    assert sent == [0, metrics]  # the parameters, and all three epochs
    assert seen(client, 3)
