"""Compares a real Triton's answers with PyTorch's: `python -m pipeline.certify --triton`.

Writes artifacts/triton.json and leaves the certificate as it is.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

from pipeline.certify.backends import pytorch_logits
from pipeline.certify.certificate import summary
from pipeline.certify.comparison import compare
from pipeline.certify.server import CLIENTS, free_port, served_logits, wait_until_ready
from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.data.load import load_dataset
from pipeline.export.build import load_network
from serve.deploy import triton


@contextmanager
def running_triton(model: Path) -> Iterator[tuple[httpx.Client, int]]:
    """Run Triton on the repository that `serve.deploy` makes of a model; yield an HTTP client and
    the port for gRPC.

    Raises:
        ConnectionError: it stopped, or was not ready within 60 seconds.
        OSError: it cannot be had.
    """
    http_port, grpc_port = free_port(), free_port()
    with TemporaryDirectory(prefix="triton-") as repository:
        deploy = [sys.executable, "-m", "serve.deploy", repository, "--model", str(model)]
        subprocess.run(deploy, check=True, cwd=files.ROOT, stdout=subprocess.DEVNULL)
        server = triton.start(Path(repository), http_port, grpc_port)
        try:
            address = f"http://127.0.0.1:{http_port}"
            with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
                wait_until_ready(client, server, timeout_s=60)
                yield client, grpc_port
        finally:
            server.terminate()
            server.wait()


def grpc_logits(port: int, model: str, images: np.ndarray, request_size: int) -> np.ndarray:
    """Return a model's logits from Triton by gRPC, for `request_size` images at a time."""
    logits = []
    with InferenceServerClient(f"127.0.0.1:{port}") as client:
        for start in range(0, len(images), request_size):
            batch = images[start : start + request_size]
            tensor = InferInput("images", batch.shape, "UINT8")
            tensor.set_data_from_numpy(batch)
            result = client.infer(model, [tensor], outputs=[InferRequestedOutput("logits")])
            logits.append(result.as_numpy("logits"))
    return np.concatenate(logits)


def compare_triton() -> dict[str, Any]:
    """Write and return the comparison for the test images.

    Raises:
        ValueError: it does not pass.
    """
    params, data = load_params(), load_dataset()
    key, model, size = params.export.network, params.export.model, params.certify.request_size
    files.require(model, "export")
    images = data.test_images
    with running_triton(model) as (client, grpc_port):
        backends = {
            f"triton_http, {name}": served_logits(infer, client, key, images, size)
            for name, infer in CLIENTS.items()
        }
        backends["triton_grpc"] = grpc_logits(grpc_port, key, images, size)
    expected = pytorch_logits(load_network(key), images)
    found = compare(expected, backends, data.test_labels, params.certify.max_abs_difference)
    found["model.sha256"] = files.sha256(model)
    files.write_json(files.TRITON, found)
    print(f"Triton: {summary(found)}; see {files.TRITON}")
    if not found["passed"]:
        raise ValueError(f"Triton does not answer as PyTorch does: see {files.TRITON}")
    return found
