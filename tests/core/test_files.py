import json
import os
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from types import SimpleNamespace

import pytest

from pipeline.core.files import (
    ROOT,
    check_disk,
    read_json,
    require,
    sha256,
    write_atomically,
    write_json,
)


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    write_atomically(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_failed_write_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()  # which cannot be replaced
    with pytest.raises(OSError, match=r"file cannot be written: .*Is a directory"):
        write_atomically(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_without_room_or_a_read_only_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_disk(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=99_999_999))
        with pytest.raises(OSError, match=f"{tmp_path} has 99 MB free, needs 100 MB: free some"):
            check_disk(tmp_path)
    monkeypatch.setattr("os.access", lambda _folder, _mode: False)
    with pytest.raises(PermissionError, match=f"{tmp_path} is read-only: make it writable"):
        check_disk(tmp_path)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    for missing in (require, read_json):
        with pytest.raises(FileNotFoundError, match=r"model\.onnx not found: run `dvc repro exp"):
            missing(tmp_path / "model.onnx", "export")


def test_json_is_restored_and_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"loss": 1 / 3})
    assert read_json(path, "train") == json.loads(path.read_text()) == {"loss": 1 / 3}
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"loss": float("nan")})
    assert read_json(path, "train") == {"loss": 1 / 3}


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # Source: FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == sha256(b"abc") == expected


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.core import files\n"
        "files.LOCKS = Path(sys.argv[1])\n"
        "with files.locked('train'):\n"
        "    print('in', flush=True); sys.stdin.read(); print('out', flush=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    log, lock = tmp_path / "log", tmp_path / "train.lock"
    with log.open("a") as out, Popen(command, cwd=ROOT, stdin=PIPE, stdout=out) as first:
        while "in" not in log.read_text():
            assert first.poll() is None
        with Popen(command, cwd=ROOT, stdin=DEVNULL, stdout=out, stderr=PIPE, text=True) as second:
            assert second.stderr
            assert second.stderr.readline() == f"waiting for another command, which holds {lock}\n"
            assert log.read_text().split() == ["in"]
            first.communicate()  # closes its standard input, which ends it
    assert log.read_text().split() == ["in", "out", "in", "out"]
