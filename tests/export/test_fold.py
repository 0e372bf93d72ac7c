import copy

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from models import BatchNormMLP
from pipeline.data.dataset import SCALE, SHIFT
from pipeline.data.load import Dataset
from pipeline.export.fold import fold
from pipeline.export.graph import to_onnx
from tests.export.networks import LINEAR_FIRST
from tests.zoo import Tokens


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
    assert isinstance(folded, GraphModule)
    called = [
        folded.get_submodule(node.target) for node in folded.graph.find_nodes(op="call_module")
    ]
    left = [module for module in called if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(left) == (known_name == "batch_norm_after_relu")


def test_pixels_are_scaled_first_unless_the_first_layer_is_linear(
    known_name: str, any_network: nn.Module
) -> None:
    folded = fold(any_network)
    assert isinstance(folded, GraphModule)
    _, *operations, _ = folded.graph.nodes
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


def test_a_network_that_cannot_be_traced_stays_as_it_is(small_dataset: Dataset) -> None:
    pixels = torch.tensor(small_dataset.test_images).double()
    whole = fold(Length().eval())
    assert not isinstance(whole, GraphModule)
    assert torch.equal(whole(pixels), Length()(pixels * SCALE + SHIFT))


def test_what_folding_would_change_stays_as_it_is(small_dataset: Dataset) -> None:
    network = Tokens().eval()
    pixels = torch.tensor(small_dataset.test_images).double()
    expected = copy.deepcopy(network).double()(pixels * SCALE + SHIFT)
    assert (fold(network)(pixels) - expected).abs().max() < 1e-12


def test_a_path_that_depends_on_the_images_cannot_be_exported() -> None:
    with pytest.raises(ValueError, match=r"^branch cannot be exported: (?s:.*)data-dependent"):
        to_onnx(Branch().eval(), "branch", {})
