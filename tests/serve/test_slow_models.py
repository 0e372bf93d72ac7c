"""A model that is slow, or never ends, stops neither other routes nor reloads nor SIGTERM."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from pipeline.core.files import ROOT
from tests.serve.other_models import request, write
from tests.serve.process import (
    INFER,
    MODEL,
    Record,
    connect,
    http_request,
    serving,
    started,
    wait_until,
    wait_until_ready,
)
from tests.serve.test_access import BODY, HEADERS
from tests.support import free_port

COUNT = """{name} (int64[N] x) => (int64[N] y) {{
    times = {times}
    true = Constant <value = bool {{1}}> ()
    zero = Constant <value_int = 0> ()
    total = Loop (times, true, zero) <body = step (int64 i, bool go, int64 sum)
        => (bool same, int64 next) {{
            same = Identity (go)
            next = Add (sum, i)
        }}>
    y = Add (x, total)
}}"""
AS_ASKED = COUNT.format(name="count", times="ReduceMax <keepdims = 0> (x)")
FOREVER = COUNT.format(name="count", times=f"Constant <value_int = {2**63 - 1}> ()")
NEVER, _ = request({"x": np.array([2**62])})
IN_5_S = (
    "-c",
    "import serve.__main__ as serve, serve.model.loader as loader; loader.LOAD_S = 5; serve.main()",
)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_that_never_ends_stops_no_other_route_and_no_sigterm(
    model: Path, tmp_path: Path, workers: str, record_property: Record
) -> None:
    count = write(tmp_path, AS_ASKED)
    with serving([model, count], "--workers", workers) as (process, address):
        hung = [connect(address) for _ in range(4)]
        for client in hung:
            client.sendall(http_request("POST", "/v2/models/count/infer", NEVER))
        time.sleep(0.5)
        start = time.monotonic()
        for _ in range(20):
            assert httpx.get(f"{address}/v2/health/live").status_code == 200
            assert httpx.get(f"{address}{MODEL}/ready").status_code == 200
            assert httpx.post(address + INFER, content=BODY, headers=HEADERS).status_code == 200
        answered = time.monotonic() - start
        process.terminate()
        start = time.monotonic()
        assert process.wait(25) == 0
        stopped = time.monotonic() - start
        for client in hung:
            client.close()
    record_property("seen", f"60 requests in {answered:.1f} s, stopped after {stopped:.1f} s")
    assert answered < 10
    assert stopped < 20


@pytest.mark.slow
def test_a_model_that_never_ends_is_refused_in_time_and_the_next_is_loaded(
    tmp_path: Path, record_property: Record
) -> None:
    model, log = write(tmp_path, AS_ASKED), tmp_path / "log"
    (tmp_path / "other").mkdir()
    forever = write(tmp_path / "other", FOREVER)
    with started(model, program=IN_5_S, log=log) as (process, address):
        wait_until_ready(address)
        forever.replace(model)
        start = time.monotonic()
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "was not loaded within 5 s" in log.read_text(), 20)
        refused = time.monotonic() - start
        assert not psutil.Process(process.pid).children()[1:]  # but multiprocessing's own
        write(tmp_path, AS_ASKED.replace("Add (x, total)", "Sub (x, total)"))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: " replaces version " in log.read_text(), 20)
    record_property("seen", f"refused after {refused:.1f} s")


@pytest.mark.slow
def test_a_log_that_nobody_reads_does_not_stop_the_server(model: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "serve", "--model", str(model), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(address)
        refused = http_request("GET", "/v2").replace(b"localhost", b"evil.example")
        with connect(address) as client, client.makefile("rb") as responses:
            for _ in range(2000):
                client.sendall(refused)
                assert responses.readline().startswith(b"HTTP/1.1 421")
                headers = dict(line.split(b": ") for line in iter(responses.readline, b"\r\n"))
                responses.read(int(headers[b"content-length"]))
        assert httpx.get(f"{address}/v2/health/ready").status_code == 200
        process.terminate()
        assert process.wait(20) == 0
