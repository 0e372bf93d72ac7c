import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.core import files
from pipeline.tracking import store
from pipeline.tracking.__main__ import main
from pipeline.tracking.store import open_experiment, open_store, shown_uri
from pipeline.tracking.tasks import record_results
from tests.support import empty_store

HINT = "Nothing is lost: run the same command again when it is back"


def test_a_password_in_the_stores_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/mlflow")
    assert shown_uri() == "postgresql://host/mlflow"


@pytest.mark.parametrize(
    "address",
    [
        "http://me:secret@127.0.0.1:9",
        "http://me:se/cret@127.0.0.1:9",
        "http://me:se@cret@127.0.0.1:9",
        "postgresql://me:secret@127.0.0.1:9/mlflow",
        "postgresql://127.0.0.1:9/mlflow?user=me&password=secret&application_name=tests",
    ],
)
def test_no_password_is_in_an_error_or_in_a_state_of_prefects(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConnectionError) as caught, open_store() as client:
        client.search_experiments()
    for message in (str(caught.value), str(record_results.fn().message)):
        assert "127.0.0.1:9" in message
        assert "cret" not in message


def test_a_database_whose_package_is_not_installed_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://me:secret@127.0.0.1:9/mlflow")
    message = r"postgresql\+psycopg://127\.0\.0\.1:9/mlflow needs .*psycopg.*`make dev`"
    with pytest.raises(ConnectionError, match=message), open_store():
        pass


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
