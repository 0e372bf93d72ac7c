import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models import BatchNormMLP
from models.deep import DeepMLP
from pipeline.certify.backends import file_logits
from pipeline.certify.rounding_bound import (
    UNIT_ROUNDOFF,
    Layers,
    gap_bounds,
    gaps,
    linear_layers,
    margin_report,
)
from pipeline.certify.stress_images import extreme_images
from pipeline.core.params import TrainParams
from pipeline.data.load import Dataset
from pipeline.export.fold import fold
from pipeline.export.graph import float64_logits, to_onnx
from pipeline.train.loop import train
from tests.export.networks import build

LOGITS = np.array([[3.0, 1.0, 2.0], [5.0, 9.0, 8.5]])
ANSWERS = np.array([0, 1])


@pytest.fixture(scope="module")
def deep_network(small_dataset: Dataset, train_params: TrainParams) -> DeepMLP:
    """Five hidden layers with batch normalization and dropout, after two epochs."""
    torch.manual_seed(0)
    network = DeepMLP((20,) * 5, batch_norm=True, dropout=0.1)
    list(train(network, small_dataset, train_params))
    return network.eval()


@pytest.fixture(params=["three layers", "six layers"])
def chain(
    request: pytest.FixtureRequest, trained_network: BatchNormMLP, deep_network: DeepMLP
) -> nn.Module:
    return copy.deepcopy(trained_network if request.param == "three layers" else deep_network)


def layers_of(network: nn.Module) -> Layers:
    layers = linear_layers(fold(network))
    assert layers
    return layers


@pytest.mark.parametrize(
    ("name", "count"), [("simple_mlp", 3), ("batchnorm_mlp", 3), ("deep", 6), ("no_bias", 2)]
)
def test_the_layers_of_a_chain_answer_as_the_network_does(
    name: str, count: int, small_dataset: Dataset
) -> None:
    network, images = build(name), small_dataset.test_images
    layers = layers_of(network)
    assert len(layers) == count
    x = images.reshape(len(images), -1).astype(np.float64)
    for weight, bias in layers:
        x = np.maximum(x, 0) @ weight.T + bias
    assert np.abs(x - float64_logits(network, images)).max() < 1e-12


@pytest.mark.parametrize(
    "name", ["stranger", "residual", "convolutional", "layer_norm_first", "batch_norm_after_relu"]
)
def test_a_network_that_is_not_a_chain_has_no_bound(name: str) -> None:
    assert linear_layers(fold(build(name))) is None


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(784, 10)],
        [nn.Linear(784, 10), nn.ReLU()],
        [nn.Linear(784, 20), nn.Linear(20, 10)],
        [nn.Linear(784, 20), nn.GELU(), nn.Linear(20, 10)],
    ],
)
def test_a_chain_without_relu_between_its_layers_has_no_bound(layers: list[nn.Module]) -> None:
    assert linear_layers(fold(nn.Sequential(nn.Flatten(), *layers).eval())) is None


class Rows(nn.Module):
    """Two linear layers, of which the first sees one row of an image at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(28, 8), nn.Linear(224, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.fc1(images)).flatten(1))


class UnusedReLU(nn.Module):
    """Two linear layers with a ReLU whose result goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(784, 8), nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.fc1(images.flatten(1))
        torch.relu(hidden)
        return self.fc2(hidden)


@pytest.mark.parametrize("network", [Rows, UnusedReLU])
def test_a_network_whose_data_take_another_way_has_no_bound(network: type[nn.Module]) -> None:
    assert linear_layers(fold(network().eval())) is None


def test_a_gap_is_how_far_the_answer_lies_above_another_logit() -> None:
    assert gaps(LOGITS, ANSWERS).tolist() == [[0.0, 2.0, 1.0], [4.0, 0.0, 0.5]]


def test_the_bounds_are_narrow(network: BatchNormMLP, small_dataset: Dataset) -> None:
    images = np.concatenate([small_dataset.test_images, extreme_images(network)])
    answers = float64_logits(network, images).argmax(axis=1)
    assert gap_bounds(layers_of(network), images, answers).max() < 0.1


def test_the_bounds_prove_most_answers(chain: nn.Module, small_dataset: Dataset) -> None:
    logits = float64_logits(chain, small_dataset.test_images)
    answers = logits.argmax(axis=1)
    bounds = gap_bounds(layers_of(chain), small_dataset.test_images, answers)
    assert margin_report(logits, bounds)["proven_images"] > 200


def test_no_float32_sum_moves_a_gap_beyond_its_bound(
    chain: nn.Module, small_dataset: Dataset, tmp_path: Path
) -> None:
    images = np.concatenate([small_dataset.test_images, extreme_images(chain)])
    reference = float64_logits(chain, images)
    answers = reference.argmax(axis=1)
    layers = layers_of(chain)
    bounds = gap_bounds(layers, images, answers)

    x = images.reshape(len(images), -1).astype(np.float32)
    for weight, bias in layers:
        x, weight = np.maximum(x, 0), weight.astype(np.float32)
        total = np.zeros((len(x), len(weight)), np.float32)
        for column in reversed(range(x.shape[1])):  # one by one, backwards: no library's order
            total += x[:, column, None] * weight[:, column]
        x = total + bias.astype(np.float32)
    model = tmp_path / "model.onnx"
    model.write_bytes(to_onnx(chain, "chain", {}).SerializeToString())
    for logits in (x, file_logits(model, images, optimize=True)):
        error = np.abs(gaps(logits.astype(np.float64), answers) - gaps(reference, answers))
        assert (error <= bounds).all()
        assert error.max() > 0


def test_a_bound_holds_for_weights_that_are_off_by_a_rounding(
    chain: nn.Module, small_dataset: Dataset
) -> None:
    images = small_dataset.test_images
    reference = float64_logits(chain, images)
    answers = reference.argmax(axis=1)
    layers = layers_of(chain)
    bounds = gap_bounds(layers, images, answers)
    random = np.random.default_rng(0)
    for _ in range(5):
        x = images.reshape(len(images), -1).astype(np.float64)
        for weight, bias in layers:
            off: np.ndarray = random.choice([-UNIT_ROUNDOFF, UNIT_ROUNDOFF], weight.shape)
            x = np.maximum(x, 0) @ (weight * (1 + off)).T + bias
        assert (np.abs(gaps(x, answers) - gaps(reference, answers)) <= bounds).all()


def test_no_flip_is_possible_where_every_gap_exceeds_its_bound() -> None:
    bounds = np.full(LOGITS.shape, 0.4)
    assert margin_report(LOGITS, bounds) == {
        "smallest": 0.5,
        "nearest_gap": 0.5,
        "nearest_bound": 0.4,
        "proven_images": 2,
        "no_flip_possible": True,
    }
    bounds[1, 2] = 0.5  # enough to close the second image's gap
    report = margin_report(LOGITS, bounds)
    assert (report["proven_images"], report["no_flip_possible"]) == (1, False)


def test_the_search_finds_larger_logits_than_any_image_has(
    network: BatchNormMLP, small_dataset: Dataset
) -> None:
    found = float64_logits(network, extreme_images(network))
    given = float64_logits(network, small_dataset.test_images)
    assert (found.max(axis=0) > given.max(axis=0)).all()
    assert (found.min(axis=0) < given.min(axis=0)).all()
