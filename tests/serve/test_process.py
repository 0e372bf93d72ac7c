"""The real `python -m serve`: signals, workers, tokens and overload."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from models import BatchNormMLP
from pipeline.core.files import ROOT
from pipeline.export.graph import self_test, to_onnx
from serve.__main__ import check

INFER = "/v2/models/batchnorm_mlp/infer"
HEAD = (
    '{"inputs":[{"name":"images","datatype":"UINT8","shape":[%d,28,28],'
    '"parameters":{"binary_data_size":%d}}],"outputs":[{"name":"logits"}]}'
)


def raw_request(images: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """A body with the images as raw bytes, and its header."""
    head = HEAD % (len(images), images.nbytes)
    return head.encode() + images.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


@contextmanager
def serving(
    model: Path, *options: str, log: Path | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the server on a free port; yield its process and address."""
    command = [sys.executable, "-m", "serve", "--model", str(model), "--port", "0", *options]
    with (log or Path(os.devnull)).open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address
        with httpx.Client(transport=httpx.HTTPTransport(retries=20)) as client:
            client.get(f"{address[0]}/v2/health/ready").raise_for_status()
        yield process, address[0]
    finally:
        process.kill()
        process.communicate()


def wait_until(true: Callable[[], bool], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, f"not true within {timeout_s} s"
        time.sleep(0.05)


@pytest.fixture
def other_model(tmp_path: Path) -> Path:
    """An untrained network's file."""
    path = tmp_path / "other.onnx"
    network = BatchNormMLP().eval()
    model = to_onnx(network, "batchnorm_mlp", self_test(network) | {"test_accuracy": "0.1"})
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def test_fifty_swaps_under_load_fail_no_request(model: Path, other_model: Path) -> None:
    contents = [other_model.read_bytes(), model.read_bytes()]
    body, headers = raw_request(np.zeros((1, 28, 28), np.uint8))
    statuses: Counter[int] = Counter()
    versions: set[str] = set()
    done = threading.Event()

    def infer(address: str) -> None:
        with httpx.Client(base_url=address, headers=headers) as client:
            while not done.is_set():
                response = client.post(INFER, content=body)
                statuses[response.status_code] += 1
                versions.add(response.json()["model_version"])

    with serving(model) as (process, address):
        clients = [threading.Thread(target=infer, args=[address]) for _ in range(4)]
        for client in clients:
            client.start()
        for swap in range(50):
            other_model.write_bytes(contents[swap % 2])
            other_model.replace(model)
            process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        done.set()
        for client in clients:
            client.join()
        process.terminate()
        assert process.wait(10) == 0
    assert list(statuses) == [200]
    assert len(versions) == 2


@pytest.mark.parametrize("missing", [0, 4000])  # bytes cut out, or zeroed
def test_a_corrupted_file_is_refused_and_the_old_model_stays(
    model: Path, tmp_path: Path, missing: int
) -> None:
    log = tmp_path / "log"
    content = model.read_bytes()
    with serving(model, log=log) as (process, address):
        version = httpx.get(f"{address}/v2/models/batchnorm_mlp").json()["versions"]
        middle = len(content) // 2
        model.write_bytes(content[:middle] + bytes(missing) + content[middle + 4000 :])
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "kept version" in log.read_text())
        assert httpx.get(f"{address}/v2/models/batchnorm_mlp").json()["versions"] == version


def test_poll_swaps_without_a_signal(model: Path, other_model: Path) -> None:
    with serving(model, "--poll", "0.1") as (_, address):
        url = f"{address}/v2/models/batchnorm_mlp"
        version = httpx.get(url).json()["versions"]
        other_model.replace(model)
        wait_until(lambda: httpx.get(url).json()["versions"] != version)


def test_sigterm_finishes_started_requests_and_accepts_no_more(model: Path) -> None:
    body, headers = raw_request(np.zeros((1, 28, 28), np.uint8))

    async def infer_slowly() -> bytes:
        with serving(model) as (process, address):
            host, port = address.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            lines = [f"POST {INFER} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body[:100])
            await asyncio.sleep(0.3)
            process.terminate()
            await asyncio.sleep(0.3)
            with pytest.raises(OSError):
                await asyncio.open_connection(host, int(port))
            writer.write(body[100:])
            status = await reader.readline()
            writer.close()
            assert await asyncio.to_thread(process.wait, 10) == 0
            return status

    assert asyncio.run(infer_slowly()).startswith(b"HTTP/1.1 200")


def test_workers_share_their_metrics(model: Path) -> None:
    body, headers = raw_request(np.zeros((3, 28, 28), np.uint8))
    with serving(model, "--workers", "2") as (process, address):
        for _ in range(20):  # each over its own connection, so that both workers get some
            assert httpx.post(address + INFER, content=body, headers=headers).status_code == 200
        text = httpx.get(f"{address}/metrics").text
        process.terminate()
        assert process.wait(10) == 0
    assert 'inference_latency_seconds_count{status="200"} 20.0' in text
    assert "inference_batch_images_sum 60.0" in text


def test_a_token_is_required_if_it_is_set(model: Path) -> None:
    with serving(model, SERVE_TOKEN="secret") as (_, address):  # noqa: S106

        def status(path: str, token: str) -> int:
            return httpx.get(address + path, headers={"Authorization": token}).status_code

        assert status("/v2", "Bearer secret") == 200
        assert status("/v2", "Bearer wrong") == 401
        assert status("/metrics", "") == 401
        assert status("/v2/health/live", "") == 200
        assert httpx.post(address + INFER).status_code == 401


def test_a_public_address_without_a_token_is_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVE_TOKEN", raising=False)
    check(Namespace(workers=1, poll=None, host="127.0.0.1"))
    assert not caplog.text
    check(Namespace(workers=1, poll=None, host="0.0.0.0"))  # noqa: S104
    assert "set SERVE_TOKEN" in caplog.text


def test_a_log_line_has_the_requests_id(model: Path, tmp_path: Path) -> None:
    body, headers = raw_request(np.zeros((1, 28, 28), np.uint8))
    log = tmp_path / "log"
    with serving(model, "--log-requests", log=log) as (_, address):
        response = httpx.post(
            address + INFER, content=body, headers=headers | {"X-Request-ID": "a7"}
        )
        line = r'"request_id":"a7".*"status":200,"latency_ms":'
        wait_until(lambda: bool(re.search(line, log.read_text())))
    assert response.headers["x-request-id"] == "a7"


def test_overload_is_answered_or_refused_and_then_over(model: Path) -> None:
    body, headers = raw_request(np.zeros((256, 28, 28), np.uint8))  # sixteen of them may wait
    statuses: Counter[int] = Counter()

    async def infer(client: httpx.AsyncClient, end: float) -> None:
        while time.monotonic() < end:
            statuses[(await client.post(INFER, content=body)).status_code] += 1

    async def overload(address: str) -> float:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(
            base_url=address, headers=headers, limits=limits, timeout=30
        ) as client:
            end = time.monotonic() + 3
            await asyncio.gather(*(infer(client, end) for _ in range(64)))
            start = time.monotonic()
            (await client.post(INFER, content=body)).raise_for_status()
            return time.monotonic() - start

    with serving(model) as (_, address):
        assert asyncio.run(overload(address)) < 1
    assert set(statuses) <= {200, 503}
    assert min(statuses[200], statuses[503]) > 0
