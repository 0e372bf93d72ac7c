import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.wait import holders


def rwlock(folder: Path, pid: int) -> Path:
    entry = {"pid": pid, "cmd": "dvc repro"}
    path = folder / "rwlock"
    path.write_text(json.dumps({"write": {"a": entry}, "read": {"b": [entry]}}))
    return path


def test_a_living_dvc_holds_its_files(tmp_path: Path) -> None:
    sleep = "import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", sleep, "dvc", "repro"])
    try:
        assert holders(rwlock(tmp_path, process.pid)) == {process.pid}
    finally:
        process.kill()
    # Not waited for, it is a zombie: dead, but its id is still taken.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert holders(rwlock(tmp_path, process.pid)) == set()
    process.wait()
    assert holders(rwlock(tmp_path, process.pid)) == set()


def test_another_process_with_its_id_holds_nothing(tmp_path: Path) -> None:
    assert holders(rwlock(tmp_path, 1)) == set()


def test_a_lock_file_that_is_empty_cut_short_or_not_there_holds_nothing(tmp_path: Path) -> None:
    assert holders(tmp_path / "rwlock") == set()
    for content in ("{}", "", '{"write": {'):
        (tmp_path / "rwlock").write_text(content)
        assert holders(tmp_path / "rwlock") == set()
