"""Corrects the addresses of files in the project's own MLflow store after the project was moved."""

import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.core import files
from pipeline.core.params import load_params

ARTIFACTS = "/mlartifacts"
COLUMNS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def artifacts_address() -> str:
    """Return the address of the folder in which the project's own store keeps files."""
    return files.PROJECT.as_uri() + ARTIFACTS


def old_project(database: Path) -> str | None:
    """Return the address of the folder that the store was made for, or None if it is this one."""
    here, tracking = artifacts_address(), load_params().tracking
    query = "SELECT artifact_location FROM experiments WHERE name IN (?, ?)"
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as store:
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
