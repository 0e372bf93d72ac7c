"""Opens MLflow's store, and corrects its absolute addresses after the project was moved."""

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core import files
from pipeline.core.damage import check_database
from pipeline.core.params import load_params

DATABASE = files.PROJECT / "mlflow.db"
OWN_STORE = f"sqlite:///{DATABASE}"
ARTIFACTS = "/mlartifacts"
COLUMNS = {  # with addresses, by table
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or else the address of the project's own SQLite store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or OWN_STORE


def is_own_store() -> bool:
    """Return whether the store is the project's own, however its address is written."""
    path = tracking_uri().removeprefix("sqlite:///")
    return path != tracking_uri() and Path(path).resolve() == DATABASE


def ui_url() -> str:
    """Return the address of MLflow's UI: the server's, or that of `make ui`."""
    return shown_uri() if shown_uri().startswith("http") else "http://127.0.0.1:5000"


def shown_uri() -> str:
    """Return the store's address without the password it may contain."""
    return without_passwords(tracking_uri())


def without_passwords(text: str) -> str:
    """Return a text without the user names and passwords of the addresses in it."""
    return re.sub(r"(?<=//)\S*@|(?<=password=)[^&\s]*", "", text)


@contextmanager
def open_store() -> Iterator[MlflowClient]:
    """Yield a client of the store; a new SQLite store is created atomically.

    Raises:
        ConnectionError: the store failed or is damaged; the message says what to do.
        ValueError: the store's addresses are those of another folder.
    """
    try:
        logging.getLogger("alembic").setLevel(logging.WARNING)  # a new store's many migrations
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        if is_own_store():
            create_database()
            if old := old_project(DATABASE):
                raise ValueError(
                    f"MLflow's store keeps its files in {old}, not in {files.PROJECT}: run `python "
                    "-m pipeline.tracking --moved` if the project was moved or copied here"
                )
        if not tracking_uri().startswith(("http", "sqlite")):  # or MLflow tries for 100 seconds
            create_engine(tracking_uri(), connect_args={"connect_timeout": 10}).connect().close()
        yield MlflowClient(tracking_uri())
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise ConnectionError(
            f"MLflow at {shown_uri()} failed: {without_passwords(str(error))}\n"
            "Nothing is lost: run the same command again when it is back"
        ) from error
    except ImportError as error:
        raise ConnectionError(
            f"MLflow at {shown_uri()} needs a package: {error}: install it; `make dev` does so for "
            "PostgreSQL"
        ) from error


def create_database() -> None:
    """Create the project's own store unless it exists."""
    with files.locked("mlflow"):
        if not DATABASE.exists():
            part = DATABASE.with_name(DATABASE.name + ".part")
            part.unlink(missing_ok=True)
            MlflowClient(f"sqlite:///{part}")  # makes the tables
            part.replace(DATABASE)


def open_experiment(client: MlflowClient, name: str) -> str:
    """Return the experiment's id, creating the experiment if there is none."""
    experiment = client.get_experiment_by_name(name)
    if not experiment:  # a server knows where to put artifacts
        own = None if tracking_uri().startswith("http") else artifacts_address()
        with unless_it_exists():
            return client.create_experiment(name, own)
        return open_experiment(client, name)
    if experiment.lifecycle_stage == "deleted":  # in the UI, where its name stays taken
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


@contextmanager
def unless_it_exists() -> Iterator[None]:
    """Leave the block if what it creates exists by now: another clone shares the store."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def insert_or_update(write: Callable[..., object], *arguments: object) -> None:
    """Write again if another clone inserted the same row at this moment: then MLflow updates it."""
    try:
        write(*arguments)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        write(*arguments)


@contextmanager
def artifact_storage() -> Iterator[None]:
    """Raise MlflowException whatever the storage of MLflow's files raises: S3, for example, has
    errors of its own, which MLflow passes on."""
    try:
        yield
    except MlflowException:
        raise
    except Exception as error:
        raise MlflowException(f"the storage of its files failed: {error}") from error


def download(folder: str | None, name: str) -> bytes | None:
    """Return a file of a folder that MLflow keeps, or None if the file is gone.

    Raises:
        MlflowException: the storage failed, which says nothing about the file.
    """
    with artifact_storage():
        try:
            listed = list_artifacts(folder, tracking_uri=tracking_uri())
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if name not in {Path(file.path).name for file in listed}:
            return None
        with TemporaryDirectory() as local:
            path = download_artifacts(folder, dst_path=local, tracking_uri=tracking_uri())
            return (Path(path) / name).read_bytes()


def artifacts_address() -> str:
    """Return the address of the folder in which the project's own store keeps files."""
    return files.PROJECT.as_uri() + ARTIFACTS


def old_project(database: Path) -> str | None:
    """Return the address of the folder that the store was made for, or None if it is this one."""
    here, tracking = artifacts_address(), load_params().tracking
    query = "SELECT artifact_location FROM experiments WHERE name IN (?, ?)"
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as store:
        check_database(store, database.name)
        for (address,) in store.execute(query, [tracking.experiment, tracking.study_experiment]):
            if address != here and address.startswith("file:") and address.endswith(ARTIFACTS):
                return str(address).removesuffix(ARTIFACTS)
    return None


def correct_addresses(database: Path) -> None:
    """Replace the old folder's address by this one's in the places of `COLUMNS`."""
    old, new = old_project(database), files.PROJECT.as_uri()
    if not old:
        return
    with closing(sqlite3.connect(database)) as store, store:
        for table, column in COLUMNS.items():
            store.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                f"WHERE substr({column}, 1, ?) = ?",
                [new, len(old) + 1, len(old) + 1, f"{old}/"],
            )
