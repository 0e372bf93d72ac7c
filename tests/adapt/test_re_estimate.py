import copy

import pytest
import torch
from torch import Tensor, nn

from models import BatchNormMLP, SimpleMLP
from pipeline.adapt.re_estimate import re_estimate, re_estimate_for_mix


class ConvNet(nn.Module):
    """Two normalized convolutions and a normalized linear layer, with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 28)),
            *(nn.Conv2d(1, 4, 5, stride=3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(216, 10), nn.BatchNorm1d(10)),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(40, 28, 28, generator=torch.Generator().manual_seed(0))


def statistics(network: nn.Module) -> dict[str, Tensor]:
    return {name: b for name, b in network.named_buffers() if name.endswith(("_mean", "_var"))}


@pytest.mark.parametrize("build", [BatchNormMLP, ConvNet])
def test_the_statistics_are_those_that_pytorch_takes_of_the_layers_inputs(
    build: type[nn.Module], images: Tensor
) -> None:
    adapted = re_estimate(build(), images)
    norms = [m for m in adapted.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    inputs: list[Tensor] = []
    for norm in norms:
        norm.register_forward_pre_hook(lambda _norm, args: inputs.append(args[0]))
    adapted(images)
    for norm, x in zip(norms, inputs, strict=True):
        fresh = type(norm)(norm.num_features, momentum=None)  # the mean over its only batch
        fresh(x)
        torch.testing.assert_close(statistics(norm), statistics(fresh))


def test_the_network_itself_stays_as_it_was(images: Tensor) -> None:
    network = BatchNormMLP()
    before = copy.deepcopy(network.state_dict())
    assert not re_estimate(network, images).training
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert network.training


@pytest.mark.parametrize("build", [BatchNormMLP, ConvNet])
def test_a_weight_of_0_leaves_an_image_out(build: type[nn.Module], images: Tensor) -> None:
    network, weights = build(), torch.ones(40)
    weights[30:] = 0
    found = statistics(re_estimate(network, images, weights))
    torch.testing.assert_close(found, statistics(re_estimate(network, images[:30])))


def test_an_adapted_network_can_be_trained_and_adapted_again(images: Tensor) -> None:
    adapted = re_estimate(BatchNormMLP(), images)
    adapted.train()(images).sum().backward()
    again = re_estimate(adapted, images + 1)
    first, second = adapted.get_buffer("bn1.running_mean"), again.get_buffer("bn1.running_mean")
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (SimpleMLP(), 40),
        (nn.BatchNorm1d(28, track_running_stats=False), 40),
        (BatchNormMLP(), 1),
    ],
)
def test_nothing_to_re_estimate_is_an_error(network: nn.Module, count: int, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"no running statistics|at least two images, got 1"):
        re_estimate(network, images[:count])


class Bright(nn.Module):
    """Class 1 for an image that is brighter than others: the mean pixel, normalized, decides."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(images.flatten(1).mean(dim=1, keepdim=True))
        return torch.cat([-8 * x, 8 * x], dim=1)


@pytest.mark.parametrize(
    ("bright", "expected"),
    [(20, 1.0), (2, 0.5 + 40 / (40 + 98 / 2 / 0.98))],  # a weight is at most 20, not 25
)
def test_the_class_mix_is_corrected_towards_the_prior(bright: int, expected: float) -> None:
    pixels = torch.tensor([0.5] * (100 - bright) + [1.5] * bright)
    images = pixels[:, None, None].expand(-1, 28, 28)
    plain = re_estimate(Bright(), images)
    corrected = re_estimate_for_mix(Bright(), images, torch.tensor([0.5, 0.5]))
    assert plain.get_buffer("norm.running_mean").item() == pytest.approx(0.5 + bright / 100)
    assert corrected.get_buffer("norm.running_mean").item() == pytest.approx(expected, abs=0.01)


def test_a_mix_like_the_prior_is_left_alone(images: Tensor) -> None:
    network = re_estimate(BatchNormMLP(), images)
    prior = network(images).double().softmax(dim=1).mean(dim=0)
    torch.testing.assert_close(
        statistics(re_estimate_for_mix(network, images, prior)), statistics(network)
    )


def test_a_layer_that_is_used_twice_is_refused() -> None:
    norm = nn.BatchNorm1d(4)
    with pytest.raises(ValueError, match="Sequential uses a batch normalization layer twice"):
        re_estimate(nn.Sequential(norm, nn.ReLU(), norm), torch.randn(8, 4))
