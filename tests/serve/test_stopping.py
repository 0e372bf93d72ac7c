"""SIGTERM ends the server in time, whatever a client or a poll does; SIGHUP never ends it."""

import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.serve.load import Served
from tests.serve.process import (
    MODEL,
    Record,
    connect,
    http_request,
    send,
    serving,
    started,
    wait_until,
    wait_until_ready,
)

HANGING = """
import sys, time, pathlib, serve.__main__
from serve.model.loader import Loader
load, hang = Loader.load, pathlib.Path(sys.argv.pop(1))
def load_or_hang(*arguments):
    while hang.exists():
        hang.with_suffix(".seen").touch()
        time.sleep(0.1)
    return load(*arguments)
Loader.load = load_or_hang
serve.__main__.main()
"""


def test_sigterm_finishes_the_started_requests_of_all_models_and_accepts_no_more(
    several: list[Served],
) -> None:
    requests = [model.request() for model in several * 20]
    with serving([model.path for model in several]) as (process, address), ExitStack() as stack:
        clients = [stack.enter_context(connect(address)) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request[:-100])
        time.sleep(0.3)
        process.terminate()
        time.sleep(0.3)
        with pytest.raises(OSError):
            connect(address)
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request[-100:])
        assert {client.recv(12) for client in clients} == {b"HTTP/1.1 200"}
        assert process.wait(10) == 0


def stop_within_20_s(process: subprocess.Popen[str], record_property: Record) -> None:
    start = time.monotonic()
    process.terminate()
    assert process.wait(25) == 0
    seconds = time.monotonic() - start
    record_property("seen", f"stopped after {seconds:.1f} s")
    assert seconds < 20


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_stops_within_20_s_although_a_client_never_reads(
    model: Path, workers: str, record_property: Record
) -> None:
    with serving(model, "--workers", workers) as (process, address), connect(address) as client:
        for _ in range(40):  # until the buffers between them are full
            send(client, http_request("GET", "/openapi.json") * 16)
            time.sleep(0.05)
        stop_within_20_s(process, record_property)


def test_it_stops_within_20_s_although_a_poll_hangs(
    model: Path, tmp_path: Path, record_property: Record
) -> None:
    hang = tmp_path / "hang"
    program = ("-c", HANGING, str(hang))
    with started(model, "--poll", "0.1", program=program) as (process, address):
        wait_until_ready(address)
        hang.touch()
        wait_until(hang.with_suffix(".seen").exists)
        assert httpx.get(address + MODEL).status_code == 200
        stop_within_20_s(process, record_property)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hangup_right_after_the_first_line_kills_nobody_and_is_not_forgotten(
    model: Path, other_model: Path, workers: str
) -> None:
    with started(model, "--workers", workers) as (process, address):
        other_model.replace(model)
        for _ in range(200):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.005)
        wait_until_ready(address)
        assert process.poll() is None
        versions = {httpx.get(address + MODEL).json()["versions"][0] for _ in range(20)}
    assert len(versions) == 1
    with serving(model) as (_, address):
        assert httpx.get(address + MODEL).json()["versions"] == list(versions)
