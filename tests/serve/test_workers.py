"""Several workers: one that dies is replaced, and their shared folder goes with their leader."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from serve.model.metrics import FILES
from tests.serve.load import Served, versions
from tests.serve.process import INFER, Record, raw_request, serving, started, wait_until

BODY, HEADERS = raw_request(np.zeros((3, 28, 28), np.uint8))


def workers(leader: subprocess.Popen[str]) -> list[int]:
    """The process ids of the workers, the oldest first."""
    children = psutil.Process(leader.pid).children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def status(address: str) -> int:
    """The status of an inference request over a connection of its own."""
    return httpx.post(address + INFER, content=BODY, headers=HEADERS).status_code


def test_workers_share_their_metrics(model: Path) -> None:
    with serving(model, "--workers", "2") as (process, address):
        for _ in range(20):  # each over its own connection, so that both workers get some
            assert status(address) == 200
        text = httpx.get(f"{address}/metrics").text
        process.terminate()
        assert process.wait(10) == 0
    assert 'inference_latency_seconds_count{model="batchnorm_mlp",status="200"} 20.0' in text
    assert 'inference_batch_rows_sum{model="batchnorm_mlp"} 60.0' in text


def test_a_killed_worker_is_replaced_and_logged(
    several: list[Served], tmp_path: Path, record_property: Record
) -> None:
    log, seconds = tmp_path / "log", []
    paths = [model.path for model in several]
    with serving(paths, "--workers", "2", log=log) as (process, address):
        wait_until(lambda: len(workers(process)) == 2)
        for kill in range(3):
            killed, start = workers(process)[0], time.monotonic()
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: log.read_text().count("starting another") == kill + 1)  # noqa: B023
            wait_until(lambda: len(workers(process)) == 2)
            seconds.append(time.monotonic() - start)
            assert f"worker {killed} ended with -9" in log.read_text()
            assert {model.status(address) for model in several * 5} == {200}
        process.terminate()
        assert process.wait(20) == 0
    record_property("seen", f"another started within {max(seconds):.1f} s")


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--poll", "0.1"]], ids=["hangup", "poll"])
def test_a_reload_reaches_all_models_of_all_workers_and_their_replacements(
    several: list[Served], tmp_path: Path, options: list[str]
) -> None:
    log, paths = tmp_path / "log", [model.path for model in several]
    with serving(paths, "--workers", "2", *options, log=log, TMPDIR=str(tmp_path)) as server:
        process, address = server
        wait_until(lambda: len(reserved(tmp_path)) == 2 * len(FILES))  # both workers have started
        old = versions(address)
        for model in several:
            model.path.write_bytes(model.revision())
        if not options:
            process.send_signal(signal.SIGHUP)
        wait_until(lambda: log.read_text().count(" replaces version ") == 2 * len(several))
        new = versions(address)
        assert not set(new.values()) & set(old.values())
        os.kill(workers(process)[0], signal.SIGKILL)
        wait_until(lambda: "starting another" in log.read_text())
        wait_until(lambda: len(workers(process)) == 2)
        assert all(versions(address) == new for _ in range(20))


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_server(
    model: Path, tmp_path: Path, record_property: Record
) -> None:
    log = tmp_path / "log"
    with serving(model, "--workers", "2", log=log) as (process, address):
        assert status(address) == 200
        model.write_bytes(b"not a model")  # no replacement can load it
        wait_until(lambda: len(workers(process)) == 2)
        os.kill(workers(process)[0], signal.SIGKILL)
        assert process.wait(60) == 1
    deaths = log.read_text().count("ended with")
    record_property("seen", f"ended after {deaths} deaths")
    assert "error: " in log.read_text()
    assert log.read_text().rstrip().endswith("stopping")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_shared_folder_and_the_workers_go_with_their_leader(
    model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with serving(model, "--workers", "2", TMPDIR=str(folder)) as (process, _):
        wait_until(lambda: len(workers(process)) == 2)
        pids = workers(process)
        assert list(folder.rglob("*.db"))
        process.send_signal(number)
        process.wait(20)
        wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 20)
        assert list(folder.iterdir()) == []


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root: run `sudo make drill WHAT=workers`")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_start_is_named(
    model: Path, tmp_path: Path, record_property: Record
) -> None:
    log = tmp_path / "log"
    with (
        small_disk(tmp_path / "disk", "512k") as disk,
        started(model, "--workers", "2", log=log, TMPDIR=str(disk)) as (process, _),
    ):
        assert process.wait(60) == 1
    found = re.search(r"error: no room .*No space left on device", log.read_text())
    assert found
    record_property("seen", found[0].replace(str(tmp_path), ""))


def reserved(disk: Path) -> list[Path]:
    return [path for path in disk.glob("serve-metrics-*/*.db") if path.stat().st_size]


@pytest.mark.slow
def test_a_disk_that_fills_up_does_not_stop_inference(model: Path, tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", "4m") as disk,
        serving(model, "--workers", "2", TMPDIR=str(disk)) as (process, address),
    ):
        wait_until(lambda: len(reserved(disk)) == 2 * len(FILES))  # both workers have started
        assert status(address) == 200
        with pytest.raises(OSError, match="No space left"), (disk / "filler").open("wb") as filler:
            while True:
                filler.write(bytes(4096))
                filler.flush()
        pids = workers(process)
        for _ in range(20):
            assert status(address) == 200
            assert httpx.get(f"{address}/metrics").status_code == 200
            assert httpx.get(f"{address}/nothing").status_code == 404
        assert workers(process) == pids
