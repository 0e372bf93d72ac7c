import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline import recording, tracking
from pipeline.artifacts import KEYS
from pipeline.history import Epoch, write_history
from pipeline.provenance import params_sha256

PROVENANCE: dict[str, Any] = {
    "started": "2026-01-02T03:04:05.678+00:00",
    "commit": "0123456789012345678901234567890123456789",
    "dirty": True,
    "data_md5": "126198369362df7c54984cf13f63be96.dir",
    "params": {"epochs": 2, "batch_size": 64, "lr": 0.01, "seed": 0, "device": "cpu"},
}
HISTORY = [Epoch(1, 1.0, 0.5, 0.9, 2.0), Epoch(2, 0.5, 0.25, 0.95, 2.0)]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A store of its own, and artifacts of two trainings to record in it."""
    monkeypatch.setattr(tracking, "PROJECT", tmp_path)
    monkeypatch.setattr(recording, "LOSSES", tmp_path / "losses.png")
    monkeypatch.setattr(recording, "read_provenance", lambda *_: PROVENANCE)
    monkeypatch.setattr(recording, "weights_path", lambda key: tmp_path / key)
    monkeypatch.setattr(recording, "history_path", lambda key: tmp_path / f"{key}.csv")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "losses.png").write_bytes(b"a picture")
    for key in KEYS:
        (tmp_path / key).write_bytes(key.encode())
        write_history(tmp_path / f"{key}.csv", HISTORY)
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def record(client: MlflowClient, key: str) -> str:
    return tracking.record(client, recording.of_training(key))


def test_a_run_holds_every_epoch_every_parameter_and_the_picture(client: MlflowClient) -> None:
    run = client.get_run(record(client, "simple_mlp"))
    assert run.info.run_name == "simple_mlp"
    assert run.info.status == "FINISHED"
    assert run.data.params["lr"] == "0.01"
    for name in ("train_loss", "test_loss", "test_accuracy"):
        metrics = client.get_metric_history(run.info.run_id, name)
        assert [(m.step, m.value) for m in metrics] == [
            (row.epoch, getattr(row, name)) for row in HISTORY
        ]
    assert metrics[1].timestamp - metrics[0].timestamp == 2000
    assert metrics[0].timestamp - run.info.start_time == 2000
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["losses.png"]


def test_a_run_says_which_data_code_and_weights_it_is_of(client: MlflowClient) -> None:
    tags = client.get_run(record(client, "simple_mlp")).data.tags
    assert tags["data.md5"] == "126198369362df7c54984cf13f63be96.dir"
    assert tags["mlflow.source.git.commit"] == tags["git.commit"] == PROVENANCE["commit"]
    assert tags["git.dirty"] == "true"
    assert tags["params.sha256"] == params_sha256(PROVENANCE["params"])
    assert tags["weights.sha256"] == hashlib.sha256(b"simple_mlp").hexdigest()


@pytest.mark.parametrize(("stage", "restored"), [("train", False), ("promote", True), ("", True)])
def test_a_run_that_was_not_recorded_as_it_was_trained_says_so(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, stage: str, restored: bool
) -> None:
    monkeypatch.setenv("DVC_STAGE", stage)
    tags = client.get_run(record(client, "simple_mlp")).data.tags
    assert ("restored.from.files" in tags) == restored
    assert tags["git.commit"] == PROVENANCE["commit"]


def test_a_password_in_the_stores_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/mlflow")
    assert tracking.shown_uri() == "postgresql://…@host/mlflow"


def test_both_networks_share_one_experiment(client: MlflowClient) -> None:
    runs = [client.get_run(record(client, key)) for key in KEYS]
    assert {client.get_experiment(run.info.experiment_id).name for run in runs} == {
        "mnist-batchnorm"
    }


def test_the_same_weights_are_the_same_run(client: MlflowClient) -> None:
    assert record(client, "simple_mlp") == record(client, "simple_mlp")


def test_the_same_weights_by_other_parameters_are_another_run(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = record(client, "simple_mlp")
    other = PROVENANCE | {"params": PROVENANCE["params"] | {"device": "auto"}}
    monkeypatch.setattr(recording, "read_provenance", lambda *_: other)
    assert record(client, "simple_mlp") != first


def test_a_recording_that_was_cut_short_is_made_again(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(client, "log_artifact", fail)
        with pytest.raises(OSError, match="disk full"):
            record(client, "simple_mlp")
    whole = record(client, "simple_mlp")
    runs = client.search_runs([tracking.open_experiment(client, "mnist-batchnorm")])
    assert [run.info.run_id for run in runs] == [whole]


def test_more_epochs_than_one_batch_holds(client: MlflowClient, tmp_path: Path) -> None:
    history = [Epoch(i, 1 / i, 1 / i, 0.9, 0.5) for i in range(1, 602)]
    write_history(tmp_path / "simple_mlp.csv", history)
    run_id = record(client, "simple_mlp")
    assert len(client.get_metric_history(run_id, "train_loss")) == 601


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float | str]]:
    """The one verdict of a study to record."""
    folder = tmp_path / "study"
    monkeypatch.setattr(recording, "STUDY", folder)
    monkeypatch.setattr(recording, "VERDICTS", folder / "verdicts.json")
    folder.mkdir()
    verdicts = {"gap": {"verdict": "cannot tell", "mean": 0.5, "low": -1.0, "high": 2.0}}
    (folder / "verdicts.json").write_text(json.dumps(verdicts))
    (folder / "report.md").write_text("# What it found")
    return verdicts


def record_study(client: MlflowClient) -> str:
    return tracking.record(client, recording.of_study())


@pytest.mark.usefixtures("study")
def test_the_studys_run_holds_every_interval_verdict_and_file(client: MlflowClient) -> None:
    run = client.get_run(record_study(client))
    assert (run.info.run_name, run.info.status) == ("study", "FINISHED")
    assert run.data.metrics == {"gap.mean": 0.5, "gap.low": -1.0, "gap.high": 2.0}
    assert run.data.params["gap.verdict"] == "cannot tell"
    assert run.data.params["seed"] == "0"
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"report.md", "verdicts.json"}


@pytest.mark.usefixtures("study")
def test_the_same_verdicts_are_the_same_run_and_others_another(
    client: MlflowClient, tmp_path: Path
) -> None:
    first = record_study(client)
    assert record_study(client) == first
    found = json.loads((tmp_path / "study" / "verdicts.json").read_text())
    found["gap"]["mean"] = 0.6
    (tmp_path / "study" / "verdicts.json").write_text(json.dumps(found))
    assert record_study(client) != first


def test_a_store_that_is_not_whole_does_not_get_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "mlflow.db"
    monkeypatch.setattr(tracking, "DATABASE", database)
    monkeypatch.setattr(tracking, "OWN_STORE", f"sqlite:///{database}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def fail(_url: str) -> None:
        (tmp_path / "mlflow.db.part").write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "MlflowClient", fail)
        with pytest.raises(OSError, match="disk full"):
            tracking.open_store()
    assert not database.exists()
    tracking.open_store()
    assert database.exists()


def test_a_store_that_does_not_answer_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SystemExit, match=r"run `python -m pipeline\.tracking` when it is back"):
        tracking.main()
