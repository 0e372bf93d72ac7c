import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.artifacts import ROOT, require, write_whole


def test_a_write_that_is_cut_short_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    write_whole(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_missing_artifact_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run `dvc repro export`"):
        require(tmp_path / "model.onnx", "export")


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pipeline.artifacts import only_one\n"
        "with only_one(Path(sys.argv[1]) / 'lock'):\n"
        "    print('in', flush=True); time.sleep(float(sys.argv[2])); print('out', flush=True)"
    )
    log = tmp_path / "log"
    with log.open("a") as out:
        first = subprocess.Popen([sys.executable, "-c", code, tmp_path, "1"], cwd=ROOT, stdout=out)
        while "in" not in log.read_text():
            pass
        subprocess.run([sys.executable, "-c", code, tmp_path, "0"], cwd=ROOT, stdout=out)
        first.wait()
    assert log.read_text().split() == ["in", "out", "in", "out"]
