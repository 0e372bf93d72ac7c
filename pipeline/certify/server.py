"""Starts the server and requests logits, in JSON and in binary."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from tqdm import tqdm

from pipeline.core import files

Infer = Callable[[httpx.Client, str, np.ndarray], np.ndarray]


@contextmanager
def running_server(*models: Path) -> Iterator[httpx.Client]:
    """Run `python -m serve` on a free port of 127.0.0.1, and yield a client of it.

    Raises:
        ConnectionError: it stopped, was not ready within 60 seconds, or failed a request.
    """
    port = free_port()
    command = [sys.executable, "-m", "serve", "--port", str(port)]
    for model in models:
        command += ["--model", str(model)]
    server = subprocess.Popen(command, cwd=files.ROOT)
    try:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            wait_until_ready(client, server, timeout_s=60)
            yield client
    except httpx.HTTPError as error:
        raise ConnectionError(f"the server failed a request: {error}") from error
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(client: httpx.Client, server: subprocess.Popen, timeout_s: float) -> None:
    """Wait for a server's readiness route.

    Raises:
        ConnectionError: the server stopped, or was not ready in time.
    """
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and server.poll() is None:
        try:
            client.get("/v2/health/ready").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise ConnectionError(f"the server stopped or was not ready within {timeout_s} s, see above")


def infer_json(client: httpx.Client, model: str, images: np.ndarray) -> np.ndarray:
    """Return the server's logits as JSON has them, float32."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape}
    body = {"inputs": [tensor | {"data": images.ravel().tolist()}], "outputs": [{"name": "logits"}]}
    response = client.post(f"/v2/models/{model}/infer", json=body)
    response.raise_for_status()
    output = response.json()["outputs"][0]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def infer_binary(client: httpx.Client, model: str, images: np.ndarray) -> np.ndarray:
    """Return the server's logits by the binary tensor data extension, float32."""
    size = {"binary_data_size": images.nbytes}
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape, "parameters": size}
    logits = {"name": "logits", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [logits]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    content = head + images.tobytes()
    response = client.post(f"/v2/models/{model}/infer", content=content, headers=headers)
    response.raise_for_status()
    start = int(response.headers["inference-header-content-length"])
    (shape,) = (output["shape"] for output in json.loads(response.content[:start])["outputs"])
    return np.frombuffer(response.content[start:], "<f4").reshape(shape)


CLIENTS: dict[str, Infer] = {"JSON": infer_json, "binary": infer_binary}


def served_logits(
    infer: Infer, client: httpx.Client, model: str, images: np.ndarray, request_size: int
) -> np.ndarray:
    """Return a model's logits from the server, requested for `request_size` images at a time."""
    batches = [images[i : i + request_size] for i in range(0, len(images), request_size)]
    requests = tqdm(batches, "requests to the server", disable=None, unit="request")
    return np.concatenate([infer(client, model, batch) for batch in requests])
