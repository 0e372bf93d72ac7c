"""Samples as a server sends them, and a server that keeps one."""

from collections.abc import Callable

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from pipeline.adapt import traffic
from pipeline.core.params import load_params

Respond = Callable[[httpx.Request], httpx.Response]


def make_sample(images: np.ndarray, logits: np.ndarray, version: str = "0" * 12) -> bytes:
    """Return a sample of images (N, 28, 28) uint8 and logits (N, 10), without labels."""
    tensors = {
        "inputs/images": images,
        "outputs/logits": logits.astype(np.float32),
        "time": np.zeros(len(images)),
        "label": np.full(len(images), -1),
    }
    return save(tensors, {"model": "batchnorm_mlp", "version": version, "rows": "1", "began": "0"})


def blank_sample(rows: int) -> bytes:
    """Return a sample of black images."""
    return make_sample(np.zeros((rows, 28, 28), np.uint8), np.zeros((rows, 10)))


def serve_by(respond: Respond, patch: pytest.MonkeyPatch) -> None:
    """Let every server answer by a function."""

    def connect(url: str) -> httpx.Client:
        return httpx.Client(base_url=url, transport=httpx.MockTransport(respond))

    patch.setattr(traffic, "connect", connect)


def set_adapt(patch: pytest.MonkeyPatch, module: object, **values: object) -> None:
    """Change parameters of the section `adapt`, as a module sees them."""
    params = load_params()
    adapt = params.adapt.model_copy(update=values)
    patch.setattr(module, "load_params", lambda: params.model_copy(update={"adapt": adapt}))
