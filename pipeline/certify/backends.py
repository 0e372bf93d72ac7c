"""The ways of running the network: PyTorch, the folded network, the ONNX file, and the server.

Each backend takes images (N, 28, 28) uint8 and returns logits (N, 10).
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from pipeline.certify.server import CLIENTS, running_server, served_logits
from pipeline.data.dataset import SCALE, SHIFT
from pipeline.data.tensors import scale_pixels
from pipeline.export.fold import fold

BATCH_SIZES = (1, 7, 64, 10_000)


@torch.inference_mode()
def pytorch_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return PyTorch's logits in eval mode, float32."""
    return network.eval()(scale_pixels(images)).numpy()


@torch.inference_mode()
def float64_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return PyTorch's logits in eval mode, float64: the reference for rounding errors."""
    x = torch.tensor(images).double() * SCALE + SHIFT
    return copy.deepcopy(network).double().eval()(x).numpy()


@torch.inference_mode()
def folded_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the logits of the folded network before it is rounded for the file, float64."""
    return fold(network)(torch.tensor(images).double()).numpy()


def file_logits(
    model: Path, images: np.ndarray, optimize: bool, batch_size: int = 10_000
) -> np.ndarray:
    """Return ONNX Runtime's logits, with or without its graph optimizations, float32."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # as in the server
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
    batches = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    return np.concatenate([session.run(["logits"], {"images": batch})[0] for batch in batches])


def deployed_logits(
    model: Path, images: np.ndarray, request_size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and logits of each backend of the deployment.

    A name begins with the part it belongs to: `file, batch 7` is one backend of the part `file`.
    """
    name = onnx.load(model).graph.name
    with running_server(model) as client:
        for part, optimize in (("file", False), ("optimized_file", True)):
            for size in BATCH_SIZES:
                yield f"{part}, batch {size:,}", file_logits(model, images, optimize, size)
        for encoding, infer in CLIENTS.items():
            logits = served_logits(infer, client, name, images, request_size)
            yield f"server, {encoding}", logits
