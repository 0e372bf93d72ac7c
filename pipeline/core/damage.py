"""Finds damage to DVC's cache and to mlflow.db, and names the commands that repair it."""

import shlex
import sqlite3

from pipeline.core import files


def explain(error: Exception) -> str:
    """Return an error's message and, if DVC's cache is damaged, the commands that repair it.

    DVC trusts its cache: it restores damaged files, and keeps them when a stage runs again.
    """
    entries = files.dvc_cache().glob(f"files/md5/??/{30 * '?'}*")
    digests = {path: files.md5(path.read_bytes()) for path in entries}
    damaged = {path: its for path, its in digests.items() if its != path.parent.name + path.stem}
    if not damaged:
        return str(error)
    paths = [path for name in ("artifacts", "data") for path in (files.ROOT / name).rglob("*")]
    restored = [p for p in paths if p.is_file() and files.md5(p.read_bytes()) in damaged.values()]
    remove = shlex.join(["rm", "-f", *map(str, [*damaged, *restored])])
    return (
        f"{error}\nDVC's cache is damaged: first run `{remove} && python -m pipeline.data && dvc "
        "repro`, which makes again what was damaged"
    )


def check_database(store: sqlite3.Connection, name: str) -> None:
    """Check all of a SQLite database, which MLflow would use until it comes upon the damage.

    Raises:
        ConnectionError: it is damaged, or empty.
    """
    problem = "it is empty"
    try:
        if store.execute("SELECT name FROM sqlite_schema").fetchone():
            ((problem,),) = store.execute("PRAGMA integrity_check(1)")
    except sqlite3.OperationalError:  # it is locked, for example
        raise
    except sqlite3.DatabaseError as error:
        problem = str(error)
    if problem != "ok":
        raise ConnectionError(
            f"{name} is damaged ({problem.splitlines()[-1]}): restore a copy or run `mv {name} "
            f"{name}.damaged && rm -f {name}-journal && dvc repro`, which records what is in "
            "artifacts/ in a new store, without older runs and versions"
        )
