"""A second model, to swap the first one with, and several that one server serves."""

from pathlib import Path

import numpy as np
import pytest

from models import BatchNormMLP
from pipeline.export.graph import self_test, to_onnx
from tests.serve.load import Served
from tests.serve.other_models import INPUTS, MODELS, request, write
from tests.serve.process import raw_request


@pytest.fixture(scope="session")
def other_exported() -> bytes:
    """An untrained network's ONNX file."""
    network = BatchNormMLP().eval()
    model = to_onnx(network, "batchnorm_mlp", self_test(network) | {"test_accuracy": "0.1"})
    return model.SerializeToString(deterministic=True)


@pytest.fixture
def other_model(other_exported: bytes, tmp_path: Path) -> Path:
    """A copy of the untrained network's file."""
    path = tmp_path / "other.onnx"
    path.write_bytes(other_exported)
    return path


@pytest.fixture
def several(model: Path, tmp_path: Path) -> list[Served]:
    """The image model, one of two inputs and one without a batch axis."""
    image = Served("batchnorm_mlp", model, *raw_request(np.zeros((1, 28, 28), np.uint8)))
    others = [
        Served(name, write(tmp_path, MODELS[name]), *request(INPUTS[name]))
        for name in ("two_inputs", "no_batch")
    ]
    return [image, *others]
