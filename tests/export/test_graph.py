import copy
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from models import BatchNormMLP
from pipeline.core.files import ROOT
from pipeline.data.dataset import SCALE, SHIFT
from pipeline.data.load import Dataset
from pipeline.data.tensors import scale_pixels
from pipeline.export.graph import held_out_reference, is_export, self_test, summary, to_onnx
from serve.model.drift import read_reference
from tests.export.networks import LINEAR_FIRST

EXPORT_ALL = """
from pathlib import Path
from pipeline.export.graph import to_onnx
from tests.export.networks import BUILDERS, build

for name in reversed(BUILDERS):
    model = to_onnx(build(name), name, {"key": "value"})
    Path(name).write_bytes(model.SerializeToString(deterministic=True))
"""


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same exports in another order, by another process in another working directory."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", EXPORT_ALL]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder


def to_bytes(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def infer(model: onnx.ModelProto, images: np.ndarray, *outputs: str) -> list[np.ndarray]:
    session = ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    return session.run(outputs, {"images": images})


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


@pytest.mark.parametrize("count", [1, 7, 320])
def test_onnx_runtime_answers_as_pytorch_does(
    any_network: nn.Module, any_model: onnx.ModelProto, small_dataset: Dataset, count: int
) -> None:
    images = small_dataset.test_images[:count]
    logits, probabilities = infer(any_model, images, "logits", "probabilities")
    with torch.inference_mode():
        expected = any_network(scale_pixels(images))
    assert logits.dtype == probabilities.dtype == np.float32
    assert np.abs(logits - expected.numpy()).max() < 1e-4
    assert np.allclose(probabilities, expected.softmax(1).numpy(), atol=1e-5)


def test_the_file_has_only_what_the_folded_network_needs(exported: bytes) -> None:
    graph = onnx.load_from_string(exported).graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators == {"Cast": 1, "Reshape": 1, "Gemm": 3, "Relu": 2, "Softmax": 1}


def test_batch_normalization_remains_only_after_a_relu(
    known_name: str, any_model: onnx.ModelProto
) -> None:
    operators = Counter(node.op_type for node in any_model.graph.node)
    assert operators["BatchNormalization"] == (known_name == "batch_norm_after_relu")


def test_pixels_are_scaled_first_unless_the_first_layer_is_linear(
    known_name: str, any_model: onnx.ModelProto
) -> None:
    first = [node.op_type for node in any_model.graph.node[:3]]
    assert (first == ["Cast", "Mul", "Add"]) == (known_name not in LINEAR_FIRST)


def test_the_file_holds_its_own_weights(any_model: onnx.ModelProto) -> None:
    tensors = any_model.graph.initializer
    assert all(tensor.raw_data and not tensor.external_data for tensor in tensors)


def test_the_versions_are_those_that_triton_reads(any_model: onnx.ModelProto) -> None:
    assert any_model.ir_version == 8
    assert [(opset.domain, opset.version) for opset in any_model.opset_import] == [("", 18)]
    assert {node.domain for node in any_model.graph.node} == {""}
    assert not any_model.functions


def test_the_file_has_no_path(any_model: onnx.ModelProto) -> None:
    model = copy.deepcopy(any_model)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # any bytes may occur in weights
    for path in (b".py", b"site-packages", bytes(ROOT)):
        assert path not in to_bytes(model)


@pytest.mark.slow
def test_another_process_in_another_folder_makes_the_same_bytes(
    name: str, any_model: onnx.ModelProto, elsewhere: Path
) -> None:
    assert to_bytes(any_model) == (elsewhere / name).read_bytes()


def test_a_second_export_makes_the_same_bytes(network: BatchNormMLP, exported: bytes) -> None:
    given = metadata(onnx.load_from_string(exported))
    assert to_bytes(to_onnx(network, "batchnorm_mlp", given)) == exported


def test_an_export_is_known_by_its_tensors_and_metadata(
    known_name: str, any_network: nn.Module, any_model: onnx.ModelProto
) -> None:
    """A constant, as in GELU or before a first layer that is not linear, is a tensor of the
    exporter's: such a network is exported again."""
    known = known_name in LINEAR_FIRST - {"stranger"}
    assert is_export(any_network, any_model, {"key": "value"}) == known
    assert not is_export(any_network, any_model, {"key": "another"})


def test_the_model_has_the_name_and_metadata_it_is_given(
    name: str, any_model: onnx.ModelProto
) -> None:
    assert any_model.graph.name == name
    assert metadata(any_model)["key"] == "value"


def test_the_held_out_images_rank_evenly_among_themselves(
    any_network: nn.Module, any_model: onnx.ModelProto, small_dataset: Dataset
) -> None:
    images = small_dataset.train_images
    found = held_out_reference(any_network, images)
    (logits,) = infer(any_model, images, "logits")
    reference = read_reference(found, {"logits": list("0123456789")})
    assert reference
    assert np.allclose(
        reference.shares, np.bincount(logits.argmax(axis=1), minlength=10) / 640, atol=1e-4
    )
    assert reference.ranks(logits).mean() == pytest.approx(0.5, abs=0.01)


@torch.inference_mode()
def test_the_self_test_is_of_grey_images_in_float64(network: BatchNormMLP) -> None:
    test = json.loads(self_test(network)["self_test"])
    assert test["images"] == [0, 128, 255]
    pixels = torch.tensor(test["images"]).double()[:, None, None].expand(-1, 28, 28)
    assert network.fc1.weight.dtype == torch.float32
    assert test["logits"] == network.double()(pixels * SCALE + SHIFT).tolist()


def test_a_network_in_train_mode_is_refused(network: BatchNormMLP) -> None:
    with pytest.raises(ValueError, match="train mode"):
        to_onnx(network.train(), "batchnorm_mlp", {})


def test_a_summary_has_no_signed_zeros_and_its_whitenings_are_triangular() -> None:
    outputs = np.random.default_rng(0).normal(0, 1e-6, (50, 3))
    text = json.dumps(summary(outputs))
    assert "-0.0" not in re.findall(r"-?\d+\.\d+", text)
    for whitening in summary(np.random.default_rng(0).normal(0, 1, (50, 3)))["whitenings"]:
        assert np.tril(whitening, -1).tobytes() == np.zeros((3, 3)).tobytes()
