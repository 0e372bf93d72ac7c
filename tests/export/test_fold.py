import copy

import pytest
import torch
from torch import Tensor, nn

from models import BatchNormMLP
from pipeline.data.dataset import SCALE, SHIFT
from pipeline.data.load import Dataset
from pipeline.export.fold import fold
from tests.export.networks import LINEAR_FIRST


class Length(nn.Module):
    """A network that calls `len`, which torch.fx does not trace."""

    def forward(self, images: Tensor) -> Tensor:
        return images.reshape(len(images), 784)[:, :10]


class Branch(nn.Module):
    """A network that looks at the values of its images."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, :10] if images.mean() > 0 else -images[:, 0, :10]


@torch.inference_mode()
def test_folding_is_exact_in_float64(any_network: nn.Module, small_dataset: Dataset) -> None:
    pixels = torch.tensor(small_dataset.test_images).double()
    expected = copy.deepcopy(any_network).double()(pixels * SCALE + SHIFT)
    folded = fold(any_network)(pixels)
    assert folded.dtype == torch.float64
    assert (folded - expected).abs().max() < 1e-12


def test_batch_normalization_remains_only_after_a_relu(
    known_name: str, any_network: nn.Module
) -> None:
    folded = fold(any_network)
    called = [
        folded.get_submodule(node.target) for node in folded.graph.find_nodes(op="call_module")
    ]
    left = [module for module in called if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(left) == (known_name == "batch_norm_after_relu")


def test_pixels_are_scaled_first_unless_the_first_layer_is_linear(
    known_name: str, any_network: nn.Module
) -> None:
    _, *operations, _ = fold(any_network).graph.nodes
    scaling = [node for node in operations if node.target in (torch.mul, torch.add)]
    if known_name in LINEAR_FIRST:
        assert scaling == []
    else:
        assert scaling == operations[:2]


def test_folding_does_not_change_the_network(network: BatchNormMLP) -> None:
    before = copy.deepcopy(network.state_dict())
    fold(network)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("layer", ["", "fc1", "bn2"])
def test_a_network_or_layer_in_train_mode_is_refused(network: BatchNormMLP, layer: str) -> None:
    network.get_submodule(layer).train()
    with pytest.raises(ValueError, match="train mode"):
        fold(network)


@pytest.mark.parametrize(("kind", "why"), [(Length, "'len' is not"), (Branch, "control flow")])
def test_a_network_that_cannot_be_traced_is_refused_and_says_why(
    kind: type[nn.Module], why: str
) -> None:
    with pytest.raises(
        ValueError, match=f"^{kind.__name__} cannot be exported: (.*){why}"
    ) as error:
        fold(kind().eval())
    assert "must not depend on the values of tensors" in str(error.value)
