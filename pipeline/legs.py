"""The ways in which an image is answered, from PyTorch to the server, and hard images to ask about.

Every way takes images (N, 28, 28) uint8 and gives logits (N, 10).
"""

import copy
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
import onnxruntime as ort
import torch
from tqdm import tqdm

from models import BatchNormMLP
from pipeline.artifacts import ROOT
from pipeline.export import fold
from pipeline.train import normalise

BATCH_SIZES = (1, 7, 64, 10_000)
INFER_URL = "/v2/models/batchnorm_mlp/infer"


@torch.inference_mode()
def pytorch_logits(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Return what PyTorch answers in eval mode, float32."""
    return network.eval()(normalise(images)).numpy()


@torch.inference_mode()
def float64_logits(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Return what PyTorch answers in eval mode, float64: what all others are rounded from."""
    x = torch.tensor(images).double().div_(127.5).sub_(1)
    return copy.deepcopy(network).double().eval()(x).numpy()


def folded_logits(network: BatchNormMLP, images: np.ndarray) -> np.ndarray:
    """Return what the three folded layers answer before they are rounded for the file, float64."""
    x = images.reshape(len(images), -1).astype(np.float64)
    *hidden, (weight3, bias3) = fold(network)
    for weight, bias in hidden:
        x = np.maximum(x @ weight.T + bias, 0)
    return x @ weight3.T + bias3


def file_logits(
    model: Path, images: np.ndarray, optimise: bool, batch_size: int = 10_000
) -> np.ndarray:
    """Return what ONNX Runtime answers from the file, with or without its graph optimisations."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # as the server has it
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
    batches = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    return np.concatenate([session.run(["logits"], {"images": batch})[0] for batch in batches])


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


def ask_json(client: httpx.Client, images: np.ndarray) -> np.ndarray:
    """Return what the server answers in JSON."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape}
    body = {"inputs": [tensor | {"data": images.ravel().tolist()}], "outputs": [{"name": "logits"}]}
    response = client.post(INFER_URL, json=body)
    response.raise_for_status()
    output = response.json()["outputs"][0]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def ask_binary(client: httpx.Client, images: np.ndarray) -> np.ndarray:
    """Return what the server answers in raw bytes, as the binary tensor data extension has it."""
    size = {"binary_data_size": images.nbytes}
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape, "parameters": size}
    logits = {"name": "logits", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [logits]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    response = client.post(INFER_URL, content=head + images.tobytes(), headers=headers)
    response.raise_for_status()
    start = int(response.headers["inference-header-content-length"])
    return np.frombuffer(response.content[start:], "<f4").reshape(-1, 10)


def served_logits(
    ask: Callable[[httpx.Client, np.ndarray], np.ndarray],
    client: httpx.Client,
    images: np.ndarray,
    request_size: int,
) -> np.ndarray:
    """Return what the server answers, asked for `request_size` images at a time."""
    batches = [images[i : i + request_size] for i in range(0, len(images), request_size)]
    asked = tqdm(batches, f"{ask.__name__} the server", disable=None, unit="request")
    return np.concatenate([ask(client, batch) for batch in asked])


def deployed_logits(
    model: Path, client: httpx.Client, images: np.ndarray, request_size: int
) -> dict[str, np.ndarray]:
    """Return what each leg of the deployment answers; a leg's name begins with its part's."""
    legs = {}
    for part, optimise in (("file", False), ("optimised_file", True)):
        for size in BATCH_SIZES:
            legs[f"{part}, batch {size:,}"] = file_logits(model, images, optimise, size)
    legs["server, JSON"] = served_logits(ask_json, client, images, request_size)
    legs["server, binary"] = served_logits(ask_binary, client, images, request_size)
    return legs


def hard_images(network: BatchNormMLP) -> dict[str, np.ndarray]:
    """Return images that are unlike the test images, by kind."""
    random = np.random.default_rng(0)
    pixels = np.eye(784, dtype=np.uint8).reshape(-1, 28, 28) * 255
    grey = random.integers(0, 256, (256, 28, 28), np.uint8)
    return {
        "all 0, all 255": np.repeat(np.array([0, 255], np.uint8), 784).reshape(2, 28, 28),
        "single pixels": np.concatenate([pixels, 255 - pixels]),
        "noise": np.concatenate([grey, (grey >> 7) * 255]),
        "extremes": extreme_images(network),
    }


def extreme_images(network: BatchNormMLP, starts: int = 8) -> np.ndarray:
    """Return images that make each logit as large and as small as a search from noise finds.

    The network is linear piece by piece: each step goes to the corner that is best for the piece
    at hand, until the piece no longer changes.
    """
    network = copy.deepcopy(network).double().eval()
    x = torch.tensor(np.random.default_rng(0).uniform(-1, 1, (20 * starts, 28, 28)))
    digits = torch.arange(10).repeat_interleave(2 * starts)
    signs = torch.tensor([1.0, -1.0]).repeat(10 * starts)
    for _ in range(20):
        x.requires_grad_()
        wanted = (network(x).gather(1, digits[:, None])[:, 0] * signs).sum()
        (gradient,) = torch.autograd.grad(wanted, x)
        x = gradient.sign()
    return np.unique(np.where(x.numpy() > 0, 255, 0).astype(np.uint8), axis=0)
