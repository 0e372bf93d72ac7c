"""A second model, to swap the first one with."""

from pathlib import Path

import pytest

from models import BatchNormMLP
from pipeline.export.graph import self_test, to_onnx


@pytest.fixture
def other_model(tmp_path: Path) -> Path:
    """An untrained network's file."""
    path = tmp_path / "other.onnx"
    network = BatchNormMLP().eval()
    model = to_onnx(network, "batchnorm_mlp", self_test(network) | {"test_accuracy": "0.1"})
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
