"""Images of another shape than MNIST's: colored, in four named classes."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pipeline.certify import rounding_bound, stress_images
from pipeline.certify.backends import Exported
from pipeline.certify.certificate import certify
from pipeline.certify.server import running_server
from pipeline.core.params import CertifyParams
from pipeline.data.load import Dataset
from pipeline.export import graph
from pipeline.export.fold import fold

SHAPE, NAMES = (3, 32, 32), ["circle", "square", "triangle", "parallelogram"]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A small convolutional network, and a data set described as its images are."""
    for module in (graph, rounding_bound, stress_images):
        monkeypatch.setattr(module, "IMAGE_SHAPE", SHAPE)
    monkeypatch.setattr(graph, "CLASS_NAMES", NAMES)
    monkeypatch.setattr(stress_images, "CLASSES", len(NAMES))
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(256, 4)).eval()


def test_a_network_of_colored_images_is_exported_served_and_certified(
    network: nn.Module, tmp_path: Path
) -> None:
    """The server would refuse the 500 images per request, which are 6 MB of JSON."""
    images = np.random.default_rng(0).integers(0, 256, (500, *SHAPE), np.uint8)
    data = Dataset(*(images, np.arange(500) % 4) * 2)
    model = graph.to_onnx(network, "shapes", graph.self_test(network))
    (labels,) = (entry.value for entry in model.metadata_props if entry.key == "labels")
    assert json.loads(labels)["probabilities"] == NAMES
    onnx.save(model, tmp_path / "shapes.onnx")
    params = CertifyParams(max_abs_difference=1e-4, request_size=500)
    with running_server(tmp_path / "shapes.onnx") as server:
        exported = Exported(network, fold(network), tmp_path / "shapes.onnx", server)
        found = certify(exported, data, params)
    assert found["passed"]
    counts = {row["images"]: row["count"] for row in found["backends"]}
    assert counts["single pixels"] == 2 * stress_images.MOST
