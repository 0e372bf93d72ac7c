import getpass
import hashlib
import json
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from models import NETWORKS
from pipeline.core import files
from pipeline.core.execution import Execution
from pipeline.core.history import Epoch, write_history, write_predictions
from pipeline.core.provenance import Provenance, params_sha256
from pipeline.tracking.recordings import study, training, training_header
from pipeline.tracking.runs import begin, find_runs, record
from pipeline.tracking.store import open_experiment
from tests.support import empty_store

PROVENANCE = Provenance(
    commit="0123456789012345678901234567890123456789",
    dirty=True,
    data_md5="126198369362df7c54984cf13f63be96.dir",
    params={"epochs": 2, "batch_size": 64, "lr": 0.01, "seed": 0, "device": "cpu"},
)
HISTORY = [Epoch(1, 1.0, 0.5, 0.9), Epoch(2, 0.5, 0.25, 0.95)]


def trained_at(key: str, started_ms: int, *ended_ms: int) -> Execution:
    """Say when the weights in artifacts/ were trained, as `train` does."""
    execution = Execution(id=uuid.uuid4().hex, started_ms=started_ms, ended_ms=ended_ms)
    execution.write(files.execution_path(key), files.weights_path(key))
    return execution


def restore_from_cache(key: str) -> None:
    """Do what DVC does: the files are back, but not when they were made."""
    files.execution_path(key).unlink()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """An empty store, and the files of two trainings to record in it."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    monkeypatch.setattr(files, "LOCKS", tmp_path)
    monkeypatch.setattr(files, "ARTIFACTS", tmp_path)
    monkeypatch.setattr(files, "LOSSES_FIGURE", tmp_path / "losses.png")
    monkeypatch.setattr(files, "PROVENANCE", tmp_path / "provenance.json")
    files.LOSSES_FIGURE.write_bytes(b"a picture")
    PROVENANCE.write(files.PROVENANCE)
    for key in NETWORKS:
        files.write_atomically(files.weights_path(key), key.encode())
        write_history(files.history_path(key), HISTORY)
        write_predictions(key, np.array([0, 1, 1]), np.array([0, 1, 2]))
        trained_at(key, 1000, 3000, 5000)
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_run_has_every_epoch_every_parameter_and_the_figure(client: MlflowClient) -> None:
    run = client.get_run(record(client, training("simple_mlp")))
    assert run.info.run_name == "simple_mlp"
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "network": "simple_mlp",
        "epochs": "2",
        "batch_size": "64",
        "lr": "0.01",
        "seed": "0",
        "device": "cpu",
    }
    for name in Epoch._fields[1:]:
        metrics = client.get_metric_history(run.info.run_id, name)
        assert [(m.step, m.value) for m in metrics] == [
            (row.epoch, getattr(row, name)) for row in HISTORY
        ]
        assert [m.timestamp for m in metrics] == [3000, 5000]
    assert (run.info.start_time, run.info.end_time) == (1000, 5000)
    found = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert found == {"losses.png", "answers"}


def test_a_run_fills_mlflows_columns(client: MlflowClient) -> None:
    run = client.get_run(record(client, training("batchnorm_mlp")))
    tags = run.data.tags
    assert tags["mlflow.source.name"] == "python -m pipeline.train"
    assert tags["mlflow.user"] == getpass.getuser()
    assert tags["mlflow.note.content"].startswith(
        "BatchNormMLP trained on MNIST by plain SGD: 2 ep"
    )
    assert {(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs} == {
        ("MNIST training", PROVENANCE.data_md5),
        ("MNIST test", PROVENANCE.data_md5),
    }


def test_a_run_is_tagged_with_its_data_code_and_weights(client: MlflowClient) -> None:
    tags = client.get_run(record(client, training("simple_mlp"))).data.tags
    assert tags["data.md5"] == "126198369362df7c54984cf13f63be96.dir"
    assert tags["mlflow.source.git.commit"] == tags["git.commit"] == PROVENANCE.commit
    assert tags["git.dirty"] == "true"
    assert tags["params.sha256"] == params_sha256(PROVENANCE.params)
    assert tags["weights.sha256"] == hashlib.sha256(b"simple_mlp").hexdigest()


@pytest.mark.parametrize(("stage", "restored"), [("train", False), ("promote", True), ("", True)])
def test_a_run_that_is_not_recorded_by_its_stage_is_tagged_as_restored(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, stage: str, restored: bool
) -> None:
    monkeypatch.setenv("DVC_STAGE", stage)
    restore_from_cache("simple_mlp")
    tags = client.get_run(record(client, training("simple_mlp"))).data.tags
    assert ("restored.from.files" in tags) == restored
    assert tags["git.commit"] == PROVENANCE.commit


def test_all_networks_share_one_experiment(client: MlflowClient) -> None:
    runs = [client.get_run(record(client, training(key))) for key in NETWORKS]
    assert {client.get_experiment(run.info.experiment_id).name for run in runs} == {
        "mnist-batchnorm"
    }


def test_the_same_training_is_the_same_run(client: MlflowClient) -> None:
    first = record(client, training("simple_mlp"))
    assert record(client, training("simple_mlp")) == first


def test_files_that_dvc_restored_find_the_run_that_made_them(client: MlflowClient) -> None:
    first = record(client, training("simple_mlp"))
    restore_from_cache("simple_mlp")
    assert record(client, training("simple_mlp")) == first
    assert len(client.search_runs(["1"])) == 1


def test_each_training_is_a_run_of_its_own_also_with_equal_weights(client: MlflowClient) -> None:
    first = record(client, training("simple_mlp"))
    trained_at("simple_mlp", 6000, 7000, 8000)
    assert record(client, training("simple_mlp")) == first  # a model stays its first run's
    runs = client.search_runs(["1"], order_by=["start_time"])
    assert [(run.info.start_time, run.info.status) for run in runs] == [
        (1000, "FINISHED"),
        (6000, "FINISHED"),
    ]


def test_a_dvc_experiment_names_its_runs(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "lanky-tope")
    run = client.get_run(record(client, training("simple_mlp")))
    assert run.info.run_name == "simple_mlp (lanky-tope)"
    assert run.data.tags["dvc.exp"] == "lanky-tope"


def test_the_run_of_a_process_that_was_killed_says_so(client: MlflowClient) -> None:
    header = training_header("simple_mlp", PROVENANCE, Execution.start())
    dead = begin(client, header)
    client.set_tag(dead, "recorded.by", "1 0.5")  # process 1 runs, but has not started then
    alive = begin(client, training_header("simple_mlp", PROVENANCE, Execution.start()))
    assert client.get_run(dead).info.status == "KILLED"
    record(client, training("simple_mlp"))
    assert client.get_run(alive).info.status == "RUNNING"


def test_the_same_weights_from_other_parameters_are_another_run(client: MlflowClient) -> None:
    first = record(client, training("simple_mlp"))
    restore_from_cache("simple_mlp")
    params = PROVENANCE.params | {"device": "auto"}
    PROVENANCE.model_copy(update={"params": params}).write(files.PROVENANCE)
    assert record(client, training("simple_mlp")) != first


def test_an_interrupted_recording_is_made_again(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(client, "log_artifact", fail)
        with pytest.raises(MlflowException, match="disk full"):
            record(client, training("simple_mlp"))
    complete = record(client, training("simple_mlp"))
    (run,) = client.search_runs([open_experiment(client, "mnist-batchnorm")])
    assert (run.info.run_id, run.info.status) == (complete, "FINISHED")
    assert len(client.get_metric_history(complete, "train_loss")) == len(HISTORY)


def test_a_run_that_another_clone_is_recording_is_left_alone(client: MlflowClient) -> None:
    restore_from_cache("simple_mlp")
    tags = training("simple_mlp").result | PROVENANCE.content_tags()
    experiment = open_experiment(client, "mnist-batchnorm")
    other = client.create_run(experiment, tags=tags | {"recorded.in": "host:/another/clone"})
    first = record(client, training("simple_mlp"))
    assert first != other.info.run_id
    assert client.get_run(other.info.run_id).info.lifecycle_stage == "active"
    client.set_terminated(other.info.run_id)  # but it has neither parameters nor metrics
    assert record(client, training("simple_mlp")) == first


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE params SET value = '0.02' WHERE key = 'lr'",
        "UPDATE metrics SET value = 0.99 WHERE key = 'test_accuracy' AND step = 1",
        "UPDATE latest_metrics SET value = 0.99 WHERE key = 'test_accuracy'",
        "DELETE FROM latest_metrics WHERE key = 'test_accuracy'",
    ],
    ids=["parameter", "metric", "last metric", "deleted metric"],
)
def test_a_run_that_was_changed_is_recorded_again(
    client: MlflowClient, tmp_path: Path, change: str
) -> None:
    first = record(client, training("simple_mlp"))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        assert database.execute(change).rowcount == 1
    again = record(client, training("simple_mlp"))
    assert again != first
    assert client.get_run(first).info.lifecycle_stage == "deleted"
    assert record(client, training("simple_mlp")) == again


def test_a_run_may_have_more_epochs_than_one_batch_of_metrics(client: MlflowClient) -> None:
    history = [Epoch(i, 1 / i, 1 / i, 0.9) for i in range(1, 602)]
    write_history(files.history_path("simple_mlp"), history)
    trained_at("simple_mlp", 0, *range(1, 602))
    run_id = record(client, training("simple_mlp"))
    assert len(client.get_metric_history(run_id, "train_loss")) == 601


def test_a_run_is_found_by_its_id_and_by_its_weights(client: MlflowClient) -> None:
    assert find_runs(client, "0" * 32) == []
    recorded = {key: record(client, training(key)) for key in NETWORKS}
    digest = hashlib.sha256(b"simple_mlp").hexdigest()
    for identity in (digest, recorded["simple_mlp"]):
        (run,) = find_runs(client, identity)
        assert run.info.run_id == recorded["simple_mlp"]


@pytest.fixture
def verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The files of a study with one verdict."""
    folder = tmp_path / "study"
    monkeypatch.setattr(files, "STUDY", folder)
    monkeypatch.setattr(files, "VERDICTS", folder / "verdicts.json")
    monkeypatch.setattr(files, "STUDY_PROVENANCE", folder / "provenance.json")
    verdicts = {"gap": {"verdict": "cannot tell", "mean": 0.5, "low": -1.0, "high": 2.0}}
    files.write_json(files.VERDICTS, verdicts)
    monkeypatch.setattr(files, "STUDY_EXECUTION", folder / "execution.json")
    PROVENANCE.write(files.STUDY_PROVENANCE)
    Execution(id="0", started_ms=1000, ended_ms=(9000,)).write(
        files.STUDY_EXECUTION, files.VERDICTS
    )
    (folder / "report.md").write_text("# What it found")
    return verdicts


@pytest.mark.usefixtures("verdicts")
def test_the_studys_run_has_every_interval_verdict_and_file(client: MlflowClient) -> None:
    run = client.get_run(record(client, study()))
    assert (run.info.run_name, run.info.status) == ("study", "FINISHED")
    assert run.data.metrics == {"gap.mean": 0.5, "gap.low": -1.0, "gap.high": 2.0}
    assert run.data.tags["gap.verdict"] == "cannot tell"
    assert run.data.params["seed"] == "0"
    assert (run.info.start_time, run.info.end_time) == (1000, 9000)
    found = {file.path for file in client.list_artifacts(run.info.run_id, "study")}
    names = ("execution.json", "provenance.json", "report.md", "verdicts.json")
    assert found == {f"study/{name}" for name in names}


def test_the_same_verdicts_are_the_same_run_and_others_another(
    client: MlflowClient, verdicts: dict[str, Any]
) -> None:
    first = record(client, study())
    assert record(client, study()) == first
    verdicts["gap"]["mean"] = 0.6
    files.VERDICTS.write_text(json.dumps(verdicts))
    assert record(client, study()) != first
