"""Opens MLflow's store: MLFLOW_TRACKING_URI, or else the project's own SQLite file mlflow.db."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core import files

DATABASE = files.PROJECT / "mlflow.db"
OWN_STORE = f"sqlite:///{DATABASE}"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or else the address of the project's own SQLite store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or OWN_STORE


def shown_uri() -> str:
    """Return the store's address without the password it may contain."""
    return re.sub(r"//[^/@]*@", "//…@", tracking_uri())


@contextmanager
def open_store() -> Iterator[MlflowClient]:
    """Yield a client of the store; a new SQLite store is created atomically.

    Raises:
        ConnectionError: the store failed; the message says what to do.
    """
    try:
        logging.getLogger("alembic").setLevel(logging.WARNING)  # a new store's many migrations
        if tracking_uri() == OWN_STORE and not DATABASE.exists():
            part = DATABASE.with_name(DATABASE.name + ".part")
            part.unlink(missing_ok=True)
            MlflowClient(f"sqlite:///{part}")  # makes the tables
            part.replace(DATABASE)
        yield MlflowClient(tracking_uri())
    except (MlflowException, SQLAlchemyError) as error:
        raise ConnectionError(
            f"MLflow at {shown_uri()} failed: {error}\n"
            "Nothing is lost: run `dvc repro` again when it is back"
        ) from error


def open_experiment(client: MlflowClient, name: str) -> str:
    """Return the experiment's id, creating the experiment if there is none."""
    experiment = client.get_experiment_by_name(name)
    if not experiment:  # a server knows where to put artifacts
        own = (
            None if tracking_uri().startswith("http") else (files.PROJECT / "mlartifacts").as_uri()
        )
        return client.create_experiment(name, own)
    if experiment.lifecycle_stage == "deleted":  # in the UI, where its name stays taken
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def download(uri: str | None, name: str = "") -> bytes | None:
    """Return a file that MLflow keeps, or the one of that name in a folder; None if it is gone."""
    try:
        with TemporaryDirectory() as folder:
            path = download_artifacts(uri, dst_path=folder, tracking_uri=tracking_uri())
            return (Path(path) / name).read_bytes()
    except (OSError, MlflowException, SQLAlchemyError):
        return None
