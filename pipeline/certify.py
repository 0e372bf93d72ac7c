"""Proves that the deployed network answers as PyTorch does: `python -m pipeline.certify`.

Reads the weights, model.onnx and the 10,000 test images; starts `python -m serve` on a free port;
writes artifacts/certificate.json, and fails if an answer differs.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import torch
from torch import nn
from tqdm import tqdm

from pipeline.artifacts import CERTIFICATE, MODEL, ROOT, require, sha256, weights_path, write_whole
from pipeline.data import load_mnist
from pipeline.export import load_network
from pipeline.params import CertifyParams, load_params
from pipeline.train import normalise

INFER_URL = "/v2/models/batchnorm_mlp/infer"


@torch.inference_mode()
def pytorch_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return what PyTorch answers in eval mode: logits (N, 10) float32."""
    return network.eval()(normalise(images)).numpy()


def file_logits(model: Path, images: np.ndarray, optimise: bool) -> np.ndarray:
    """Return what ONNX Runtime answers from the file, with or without its graph optimisations."""
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


def served_logits(model: Path, images: np.ndarray, request_size: int) -> np.ndarray:
    """Return what the real server answers, asked over HTTP for `request_size` images at a time."""
    batches = [images[i : i + request_size] for i in range(0, len(images), request_size)]
    with running_server(model) as client:
        asked = tqdm(batches, "asking the server", disable=None, unit="request")
        return np.concatenate([_ask(client, batch) for batch in asked])


def _ask(client: httpx.Client, images: np.ndarray) -> np.ndarray:
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape}
    body = {"inputs": [tensor | {"data": images.ravel().tolist()}], "outputs": [{"name": "logits"}]}
    response = client.post(INFER_URL, json=body)
    response.raise_for_status()
    output = response.json()["outputs"][0]
    return np.array(output["data"], np.float32).reshape(output["shape"])


@contextmanager
def running_server(model: Path) -> Iterator[httpx.Client]:
    """Start `python -m serve` on a free port of 127.0.0.1 and stop it in the end.

    Raises:
        RuntimeError: it stopped or was not ready within 60 seconds.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "serve", "--model", str(model), "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            _wait_until_ready(client, server, timeout_s=60)
            yield client
    finally:
        server.terminate()
        server.wait()


def _wait_until_ready(client: httpx.Client, server: subprocess.Popen, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and server.poll() is None:
        try:
            client.get("/v2/health/ready").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise RuntimeError(f"the server stopped or was not ready within {timeout_s} s, see above")


def compare(
    expected: np.ndarray, legs: dict[str, np.ndarray], labels: np.ndarray, limit: float
) -> dict[str, Any]:
    """Compare the logits (N, 10) of each leg of the deployment with PyTorch's.

    Returns:
        The certificate: a leg passes if no logit differs by more than `limit` (NaN does) and no
        answer, the class of the largest logit, is flipped.
    """
    answers = expected.argmax(axis=1)
    certificate: dict[str, Any] = {
        "passed": True,
        "images": len(expected),
        "accuracy": {"pytorch": float((answers == labels).mean())},
        "max_abs_difference": {},
        "flipped": {},
    }
    for name, logits in legs.items():
        difference = float(np.abs(logits - expected).max())  # NaN if any is
        leg_answers = logits.argmax(axis=1)
        flipped = int((leg_answers != answers).sum())
        certificate["accuracy"][name] = float((leg_answers == labels).mean())
        certificate["max_abs_difference"][name] = difference if np.isfinite(difference) else None
        certificate["flipped"][name] = flipped
        certificate["passed"] &= difference <= limit and flipped == 0
    return certificate


def certify(
    network: nn.Module,
    model: Path,
    images: np.ndarray,
    labels: np.ndarray,
    params: CertifyParams,
) -> dict[str, Any]:
    """Return the certificate of `model` as the deployment of `network` on these images."""
    legs = {
        "file": file_logits(model, images, optimise=False),
        "optimised_file": file_logits(model, images, optimise=True),
        "server": served_logits(model, images, params.request_size),
    }
    expected = pytorch_logits(network, images)
    return compare(expected, legs, labels, params.max_abs_difference)


def main() -> None:
    """Write the certificate and end with status 1 if it did not pass."""
    try:
        params = load_params().certify
        mnist = load_mnist()
        model = require(MODEL, "export")
        certificate = certify(load_network(), model, mnist.test_images, mnist.test_labels, params)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        sys.exit(f"error: {error}")
    certificate["model_sha256"] = sha256(model)
    certificate["weights_sha256"] = sha256(weights_path("batchnorm_mlp"))
    text = json.dumps(certificate, indent=2, allow_nan=False)
    write_whole(CERTIFICATE, text.encode())
    print(text)
    if not certificate["passed"]:
        sys.exit(
            f"error: the deployed network does not answer as PyTorch does: no logit may differ by "
            f"more than certify.max_abs_difference = {params.max_abs_difference}, and no answer "
            f"may be flipped; see {CERTIFICATE}"
        )


if __name__ == "__main__":
    main()
