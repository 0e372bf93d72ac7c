from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.core import files
from pipeline.tracking import store
from pipeline.tracking.__main__ import main
from pipeline.tracking.store import open_experiment, open_store, shown_uri
from tests.support import empty_store

HINT = "Nothing is lost: run `dvc repro` again when it is back"


def test_a_password_in_the_stores_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/mlflow")
    assert shown_uri() == "postgresql://host/mlflow"


def test_a_store_gets_its_name_only_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "mlflow.db"
    monkeypatch.setattr(store, "DATABASE", database)
    monkeypatch.setattr(store, "OWN_STORE", f"sqlite:///{database}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def fail(_url: str) -> None:
        (tmp_path / "mlflow.db.part").write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "MlflowClient", fail)
        with pytest.raises(OSError, match="disk full"), open_store():
            pass
    assert not database.exists()
    with open_store() as client:
        client.search_experiments()
    assert database.exists()


def test_a_store_that_does_not_answer_is_an_error_with_a_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConnectionError, match=HINT), open_store() as client:
        client.search_experiments()
    monkeypatch.setattr("sys.argv", ["tracking"])
    with pytest.raises(SystemExit, match=HINT):
        main()


def test_an_experiment_that_was_deleted_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment_id = open_experiment(client, "digits")
    client.delete_experiment(experiment_id)
    assert open_experiment(client, "digits") == experiment_id
    assert client.get_experiment(experiment_id).lifecycle_stage == "active"
