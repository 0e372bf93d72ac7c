import getpass
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import Epoch, write_history
from pipeline.core.provenance import Provenance, git, params_sha256
from pipeline.tracking.record import Record, content_of, epoch_points, read_record, verdict_points
from pipeline.tracking.runs import begin, find, find_trainings, record_files, record_run
from pipeline.tracking.store import open_experiment
from tests.support import empty_store, write_below

PROVENANCE = Provenance(
    stage="train",
    data_md5="126198369362df7c54984cf13f63be96.dir",
    params={"epochs": 2, "batch_size": 64, "lr": 0.01, "seed": 0, "device": "cpu"},
    code={"models": "0" * 40},
)
HISTORY = [Epoch(1, 1.0, 0.5, 0.9), Epoch(2, 0.5, 0.25, 0.95)]


def train(key: str, started_ms: int, *ended_ms: int) -> None:
    """Write the record of a training with the results that are in artifacts/."""
    record = Record.start(key, PROVENANCE).model_copy(update={"started_ms": started_ms})
    history = read_record("train", key).points
    metrics = len(epoch_points(HISTORY[0], 0))
    times = [time_ms for time_ms in ended_ms for _ in range(metrics)]
    points = [point._replace(time_ms=ms) for point, ms in zip(history, times, strict=True)]
    record.add(points).write()


def training(key: str) -> Record:
    return read_record("train", key)


def record(client: MlflowClient, key: str) -> str:
    """Record a training in artifacts/, and return the id of its run."""
    return record_run(client, training(key))


def restore_from_cache(key: str) -> None:
    """Do what DVC does: the results are back, but not the record."""
    files.record_path(key).unlink()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """An empty store, and the files of two trainings to record in it."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    write_below(tmp_path, monkeypatch)
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    for path in (files.LOSSES_FIGURE, files.PREDICTIONS, *map(files.confusion_path, NETWORKS)):
        files.write_atomically(path, b"a picture or a table")
    PROVENANCE.write()
    write_history(dict.fromkeys(NETWORKS, HISTORY))
    for key in NETWORKS:
        files.write_atomically(files.weights_path(key), key.encode())
        train(key, 1000, 3000, 5000)
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_run_has_every_epoch_every_parameter_and_the_figure(client: MlflowClient) -> None:
    run = client.get_run(record(client, "simple_mlp"))
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
    for name in Epoch._fields[1:4]:
        metrics = client.get_metric_history(run.info.run_id, name)
        assert [(m.step, m.value) for m in metrics] == [
            (row.epoch, getattr(row, name)) for row in HISTORY
        ]
        assert [m.timestamp for m in metrics] == [3000, 5000]
    assert (run.info.start_time, run.info.end_time) == (1000, 5000)
    found = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert found == {"losses.png", "simple_mlp_confusion.png", "predictions.csv"}


def test_a_run_fills_mlflows_columns(client: MlflowClient) -> None:
    run = client.get_run(record(client, "batchnorm_mlp"))
    tags = run.data.tags
    assert tags["mlflow.source.name"] == "python -m pipeline.train"
    assert tags["mlflow.user"] == getpass.getuser()
    assert tags["mlflow.note.content"].startswith("BatchNormMLP trained on MNIST: epochs 2, batch")
    assert {(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs} == {
        ("MNIST training", PROVENANCE.data_md5),
        ("MNIST test", PROVENANCE.data_md5),
    }


def test_a_run_is_tagged_with_its_data_code_and_weights(client: MlflowClient) -> None:
    tags = client.get_run(record(client, "simple_mlp")).data.tags
    assert tags["data.md5"] == "126198369362df7c54984cf13f63be96.dir"
    assert tags["mlflow.source.git.commit"] == tags["git.commit"] == git("rev-parse", "HEAD")
    assert tags["git.dirty"] == "true"
    assert Provenance.model_validate_json(tags["provenance"]) == PROVENANCE
    assert tags["params.sha256"] == params_sha256(PROVENANCE.params)
    assert tags["weights.sha256"] == hashlib.sha256(b"simple_mlp").hexdigest()


def test_a_run_of_files_that_were_made_elsewhere_is_tagged_as_restored(
    client: MlflowClient,
) -> None:
    restore_from_cache("simple_mlp")
    tags = client.get_run(record(client, "simple_mlp")).data.tags
    assert "restored.from.files" in tags
    tags = client.get_run(record(client, "batchnorm_mlp")).data.tags
    assert "restored.from.files" not in tags


def test_all_networks_share_one_experiment(client: MlflowClient) -> None:
    runs = [client.get_run(record(client, key)) for key in NETWORKS]
    assert {client.get_experiment(run.info.experiment_id).name for run in runs} == {
        "mnist-batchnorm"
    }


def test_the_same_training_is_the_same_run(client: MlflowClient) -> None:
    first = record(client, "simple_mlp")
    assert record(client, "simple_mlp") == first


def test_files_that_dvc_restored_find_the_run_that_made_them(client: MlflowClient) -> None:
    first = record(client, "simple_mlp")
    restore_from_cache("simple_mlp")
    assert record(client, "simple_mlp") == first
    assert len(client.search_runs(["1"])) == 1


def test_each_training_is_a_run_of_its_own_also_with_equal_weights(client: MlflowClient) -> None:
    first = record(client, "simple_mlp")
    train("simple_mlp", 6000, 7000, 8000)
    assert record(client, "simple_mlp") == first  # a model stays its first run's
    runs = client.search_runs(["1"], order_by=["start_time"])
    assert [(run.info.start_time, run.info.status) for run in runs] == [
        (1000, "FINISHED"),
        (6000, "FINISHED"),
    ]


def test_a_dvc_experiment_names_its_runs(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "lanky-tope")
    run = client.get_run(record(client, "simple_mlp"))
    assert run.info.run_name == "simple_mlp (lanky-tope)"
    assert run.data.tags["dvc.exp"] == "lanky-tope"


def test_the_run_of_a_process_that_was_killed_says_so(client: MlflowClient) -> None:
    dead = begin(client, Record.start("simple_mlp", PROVENANCE)).info.run_id
    client.set_tag(dead, "recorded.by", "1 0.5")  # process 1 runs, but has not started then
    alive = begin(client, Record.start("simple_mlp", PROVENANCE)).info.run_id
    assert client.get_run(dead).info.status == "KILLED"
    record(client, "simple_mlp")
    assert client.get_run(alive).info.status == "RUNNING"


def test_the_same_weights_from_other_parameters_are_another_run(client: MlflowClient) -> None:
    first = record(client, "simple_mlp")
    restore_from_cache("simple_mlp")
    params = PROVENANCE.params | {"device": "auto"}
    PROVENANCE.model_copy(update={"params": params}).write()
    assert record(client, "simple_mlp") != first


def test_an_interrupted_recording_is_made_again(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(client, "log_artifact", fail)
        with pytest.raises(MlflowException, match="disk full"):
            record(client, "simple_mlp")
    complete = record(client, "simple_mlp")
    (run,) = client.search_runs([open_experiment(client, "mnist-batchnorm")])
    assert (run.info.run_id, run.info.status) == (complete, "FINISHED")
    assert len(client.get_metric_history(complete, "train_loss")) == len(HISTORY)


def test_a_run_that_another_clone_is_recording_is_left_alone(client: MlflowClient) -> None:
    restore_from_cache("simple_mlp")
    experiment = open_experiment(client, "mnist-batchnorm")
    identity = content_of(training("simple_mlp")).identity
    other = client.create_run(experiment, tags=identity | {"recorded.in": "host:/another/clone"})
    assert record(client, "simple_mlp") != other.info.run_id
    assert client.get_run(other.info.run_id).info.status == "RUNNING"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE params SET value = '0.02' WHERE key = 'lr'",
        "UPDATE metrics SET value = 0.99 WHERE key = 'test_accuracy' AND step = 1",
        "UPDATE tags SET value = 'another' WHERE key = 'weights.sha256'",
    ],
)
def test_a_run_that_somebody_edited_stays_as_it_is(
    client: MlflowClient, tmp_path: Path, change: str
) -> None:
    first = record(client, "simple_mlp")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        assert database.execute(change).rowcount == 1
    assert record(client, "simple_mlp") == first  # `python -m pipeline.trace` reports the edit


def test_a_run_that_was_deleted_is_recorded_again(client: MlflowClient) -> None:
    first = record(client, "simple_mlp")
    client.delete_run(first)
    again = record(client, "simple_mlp")
    assert again != first
    assert client.get_run(again).info.status == "FINISHED"


def test_a_run_may_have_more_epochs_than_one_batch_of_metrics(client: MlflowClient) -> None:
    history = [Epoch(i, 1 / i, 1 / i, 0.9) for i in range(1, 602)]
    write_history({"simple_mlp": history})
    restore_from_cache("simple_mlp")
    train("simple_mlp", 0, *range(1, 602))
    run_id = record(client, "simple_mlp")
    assert len(client.get_metric_history(run_id, "train_loss")) == 601


def test_a_run_is_found_by_its_id_and_by_its_weights(client: MlflowClient) -> None:
    assert find_trainings(client, "0" * 32) == []
    recorded = {key: record(client, key) for key in NETWORKS}
    digest = hashlib.sha256(b"simple_mlp").hexdigest()
    for identity in (digest, recorded["simple_mlp"]):
        (run,) = find_trainings(client, identity)
        assert run.info.run_id == recorded["simple_mlp"]


def test_a_record_is_found_by_its_execution_and_without_one_by_its_results(
    client: MlflowClient,
) -> None:
    assert find(client, training("simple_mlp")) is None
    first = record(client, "simple_mlp")
    train("simple_mlp", 6000, 7000, 8000)
    assert find(client, training("simple_mlp")) is None
    restore_from_cache("simple_mlp")
    found = find(client, training("simple_mlp"))
    assert found
    assert found.info.run_id == first


def test_the_record_of_other_results_is_not_used(client: MlflowClient) -> None:
    assert training("simple_mlp").id
    files.write_atomically(files.weights_path("simple_mlp"), b"others")
    assert training("simple_mlp").id is None


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_an_unreadable_record_is_made_from_the_files(client: MlflowClient, content: str) -> None:
    files.record_path("simple_mlp").write_text(content)
    made = training("simple_mlp")
    assert made.id is None
    values = [point[:2] + point[3:] for row in HISTORY for point in epoch_points(row, 0)]
    assert [point[:2] + point[3:] for point in made.points] == values


@pytest.fixture
def verdicts(client: MlflowClient) -> dict[str, Any]:
    """The files of a study with one verdict."""
    verdicts = {"gap": {"verdict": "cannot tell", "mean": 0.5, "low": -1.0, "high": 2.0}}
    files.write_json(files.VERDICTS, verdicts)
    files.write_atomically(files.STUDY / "report.md", b"# What it found")
    provenance = PROVENANCE.model_copy(update={"stage": "study"})
    provenance.write()
    record = Record.start("study", provenance).model_copy(update={"started_ms": 1000})
    record.add(verdict_points(9000)).write()
    return verdicts


@pytest.mark.usefixtures("verdicts")
def test_the_studys_run_has_every_interval_verdict_and_file(client: MlflowClient) -> None:
    run = client.get_run(record_files(client)["study"])
    assert (run.info.run_name, run.info.status) == ("study", "FINISHED")
    assert run.data.metrics == {"gap.mean": 0.5, "gap.low": -1.0, "gap.high": 2.0}
    assert run.data.tags["gap.verdict"] == "cannot tell"
    assert run.data.params["seed"] == "0"
    assert (run.info.start_time, run.info.end_time) == (1000, 9000)
    found = {file.path for file in client.list_artifacts(run.info.run_id, "study")}
    assert found == {f"study/{name}" for name in ("provenance.json", "report.md", "verdicts.json")}


def test_the_same_verdicts_are_the_same_run_and_others_another(
    client: MlflowClient, verdicts: dict[str, Any]
) -> None:
    first = record_files(client)["study"]
    assert record_files(client)["study"] == first
    verdicts["gap"]["mean"] = 0.6
    files.VERDICTS.write_text(json.dumps(verdicts))
    assert record_files(client)["study"] != first
