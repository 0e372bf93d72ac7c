"""Finds damage to DVC's cache and to mlflow.db, and names the commands that repair it."""

import shlex
import sqlite3
from configparser import RawConfigParser
from hashlib import md5
from pathlib import Path

from pipeline.core import files


def explain(error: Exception) -> str:
    """Return an error's message and, if DVC's cache is damaged, the commands that repair it.

    DVC trusts its cache: it restores damaged files, and keeps them when a stage runs again.
    """
    config = RawConfigParser()
    config.read([files.ROOT / ".dvc" / name for name in ("config", "config.local")])
    cache = files.ROOT / ".dvc" / config.get("cache", "dir", fallback="cache")
    digests = {path: digest(path) for path in cache.glob(f"files/md5/??/{30 * '?'}*")}
    damaged = {path: its for path, its in digests.items() if its != path.parent.name + path.stem}
    if not damaged:
        return str(error)
    paths = [path for name in ("artifacts", "data") for path in (files.ROOT / name).rglob("*")]
    restored = [path for path in paths if path.is_file() and digest(path) in damaged.values()]
    remove = shlex.join(["rm", "-f", *map(str, [*damaged, *restored])])
    return (
        f"{error}\nDVC's cache is damaged: first run `{remove} && python -m pipeline.data && dvc "
        "repro`, which makes again what was damaged"
    )


def digest(path: Path) -> str:
    """Return a file's MD5 as 32 hexadecimal digits."""
    return md5(path.read_bytes(), usedforsecurity=False).hexdigest()


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
