"""The real `python -m serve` in a process of its own, and what tests send to it or its parts."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil

from pipeline.core.files import ROOT
from serve.model.engine import Engine
from serve.model.served import ServedModel
from serve.protocol.decoder import Decoder
from serve.protocol.tensors import Arrays

MODEL = "/v2/models/batchnorm_mlp"
INFER = f"{MODEL}/infer"
SERVE = ("-m", "serve")
Record = Callable[[str, object], None]  # the fixture record_property
HEAD = (
    '{"inputs":[{"name":"images","datatype":"UINT8","shape":[%d,28,28],'
    '"parameters":{"binary_data_size":%d}}],"outputs":[{"name":"logits"}]}'
)


def raw_request(images: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """A body with the images as raw bytes, and its header."""
    head = HEAD % (len(images), images.nbytes)
    return head.encode() + images.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def decoder(engine: Engine) -> Decoder:
    """A decoder of requests for the engine's model."""
    return Decoder(engine.inputs, engine.outputs, engine.batches)


def infer(model: ServedModel, images: np.ndarray) -> asyncio.Future[Arrays]:
    """Queue a request for the images."""
    body, headers = raw_request(images)
    request = decoder(model.engine).decode(body, int(*headers.values()))
    return model.batcher.infer(request, 0.0)


def http_request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def raw_infer() -> bytes:
    """An inference request for one black image as it goes over the wire."""
    body, headers = raw_request(np.zeros((1, 28, 28), np.uint8))
    return http_request("POST", INFER, body, **headers)


@contextmanager
def started(
    models: Path | str | Sequence[Path | str],
    *options: str,
    log: Path | None = None,
    program: Sequence[str] = SERVE,
    **environment: str,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the server on a free port; yield its process and address after its first line."""
    sources = [models] if isinstance(models, (Path, str)) else models
    arguments = [f"--model={source}" for source in sources]
    command = [sys.executable, *program, *arguments, *options]
    with launched(command, ROOT, os.environ | environment, log) as server:
        yield server


@contextmanager
def launched(
    command: list[str], folder: Path, environment: dict[str, str], log: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the server by a command as `started` does."""
    with (log or Path(os.devnull)).open("w") as errors:
        process = subprocess.Popen(
            [*command, "--port", "0"],
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address
        yield process, address[0]
    finally:
        process.kill()
        process.communicate()


@contextmanager
def serving(
    models: Path | str | Sequence[Path | str],
    *options: str,
    log: Path | None = None,
    **environment: str,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the server as `started` does, and wait until it is ready."""
    with started(models, *options, log=log, **environment) as (process, address):
        wait_until_ready(address)
        yield process, address


def wait_until_ready(address: str) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(retries=20)) as client:
        client.get(f"{address}/v2/health/ready", timeout=20).raise_for_status()


def wait_until(true: Callable[[], bool], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, f"not true within {timeout_s} s"
        time.sleep(0.05)


def connect(address: str, source: str = "127.0.0.1") -> socket.socket:
    """A TCP connection to the server."""
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0))


def memory_mb(process: subprocess.Popen[str]) -> float:
    """The resident memory of the server's process."""
    return psutil.Process(process.pid).memory_info().rss / 2**20


def send(connection: socket.socket, data: bytes) -> bool:
    """Send what can be sent; return whether the connection is open."""
    try:
        connection.sendall(data, socket.MSG_DONTWAIT if len(data) < 2**17 else 0)
    except (BlockingIOError, TimeoutError):
        return True
    except OSError:
        return False
    return True
