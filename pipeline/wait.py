"""Runs a DVC command when no other one works on the project: `python -m pipeline.wait dvc repro`.

DVC by itself gives up where another command holds a file it needs, even where that one has been
killed and the system has not cleared it away yet.
"""

import json
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import psutil

from pipeline.artifacts import ROOT, only_one

LOCKS = ROOT / ".dvc" / "tmp"


def holders(rwlock: Path) -> set[int]:
    """Return the ids of the DVC processes that hold a file and are alive."""
    try:
        held = json.loads(rwlock.read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # the latter: killed while it was written
        return set()
    entries = chain(held.get("write", {}).values(), *held.get("read", {}).values())
    return {entry["pid"] for entry in entries if is_dvc(entry["pid"])}


def is_dvc(pid: int) -> bool:
    """Tell a living DVC process from a dead one, a zombie, and another that has got its id."""
    try:
        return "dvc" in " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Wait, run the command and end with its status."""
    with only_one(LOCKS / "wait.lock"):
        pids = holders(LOCKS / "rwlock")
        if pids:
            print(f"waiting for another DVC command (process {', '.join(map(str, pids))})")
        while holders(LOCKS / "rwlock"):
            time.sleep(0.2)
        (LOCKS / "rwlock").unlink(missing_ok=True)
        sys.exit(subprocess.run(sys.argv[1:], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
