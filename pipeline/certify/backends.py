"""The ways of running a network: PyTorch, the folded network, the ONNX file, and the server.

Each backend takes images (N, *IMAGE_SHAPE) uint8 and returns logits (N, classes).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import onnxruntime as ort
import torch
from torch import nn
from tqdm import tqdm

from pipeline.core.inference import ENCODINGS, infer
from pipeline.data.tensors import logits_of, scale_pixels

BATCH_SIZES = (1, 7, 64, 500)


def pytorch_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return PyTorch's logits in eval mode, float32."""
    return logits_of(network.eval(), scale_pixels(images)).numpy()


def folded_logits(folded: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the logits of the folded network before it is rounded for the file, float64."""
    return logits_of(folded, torch.tensor(images).double()).numpy()


def file_logits(
    model: Path, images: np.ndarray, optimize: bool, batch_size: int = BATCH_SIZES[-1]
) -> np.ndarray:
    """Return ONNX Runtime's logits, with or without its graph optimizations, float32."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # as in the server
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
    return in_batches(lambda x: session.run(["logits"], {"images": x})[0], images, batch_size)


def served_logits(
    client: httpx.Client, model: str, encoding: str, images: np.ndarray, request_size: int
) -> np.ndarray:
    """Return a server's logits in an encoding of `ENCODINGS`, float32."""
    request = ENCODINGS[encoding]
    return in_batches(lambda x: infer(client, model, request(x))["logits"], images, request_size)


def in_batches(
    run: Callable[[np.ndarray], np.ndarray], images: np.ndarray, batch_size: int
) -> np.ndarray:
    """Return the logits of images that are run in batches, with a progress bar in a terminal."""
    starts = tqdm(range(0, len(images), batch_size), "batches", leave=False, disable=None)
    return np.concatenate([run(images[start : start + batch_size]) for start in starts])


class Exported(NamedTuple):
    """A trained network, the same folded, its ONNX file, and a client of a server of that file.

    The server calls the model as its file is called, without the ending.
    """

    network: nn.Module
    folded: nn.Module
    model: Path
    server: httpx.Client


def backends(
    exported: Exported, images: np.ndarray, request_size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and logits of each backend: of the network, of its file, and of the server."""
    network, folded, model, server = exported
    yield "PyTorch, float32", pytorch_logits(network, images)
    yield "folded, float64", folded_logits(folded, images)
    for part, optimize in (("file", False), ("optimized_file", True)):
        for size in BATCH_SIZES:
            yield f"{part}, batch {size:,}", file_logits(model, images, optimize, size)
    for encoding in ENCODINGS:
        logits = served_logits(server, model.stem, encoding, images, request_size)
        yield f"server, {encoding}", logits
