import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from models import NETWORKS
from models.deep import DeepMLP
from pipeline.train.step import Step
from tests.support import Stranger

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
BUILDERS = {key: network.build for key, network in NETWORKS.items()} | {
    "stranger": Stranger,
    "deep": partial(DeepMLP, batch_norm=True, dropout=0.2),
}


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("name", BUILDERS)
def test_steps_are_those_of_pytorchs_sgd_bit_for_bit(name: str, device: str) -> None:
    ours = BUILDERS[name]().to(device).eval()  # the mode that it is in after an evaluation
    theirs = copy.deepcopy(ours).train()
    step = Step(ours)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, foreach=False)
    random = torch.Generator().manual_seed(0)
    for seed, size in enumerate([64, 64, 64, 32]):
        x = torch.randn(size, 28, 28, generator=random).to(device)
        labels = torch.randint(10, (size,), generator=random).to(device)
        torch.manual_seed(seed)  # for dropout
        loss = step(x, labels, lr=0.1)
        torch.manual_seed(seed)
        expected = cross_entropy(theirs(x), labels)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=0)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


class Unused(nn.Module):
    """A frozen layer, and one that `forward` leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.unused = (nn.Linear(784, 10) for _ in range(2))
        self.frozen.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.frozen(images.flatten(1)) * self.scale


class Thawing(nn.Linear):
    """A layer that is trained from the third step on."""

    def __init__(self) -> None:
        super().__init__(784, 10)
        self.weight.requires_grad_(False)
        self.steps = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        self.weight.requires_grad_(self.steps > 2)
        return super().forward(images.flatten(1))


def test_a_layer_that_forward_thaws_is_trained_from_then_on() -> None:
    ours, theirs = Thawing(), Thawing()
    theirs.load_state_dict(ours.state_dict())
    step, optimizer = Step(ours), torch.optim.SGD(theirs.parameters(), lr=0.1, foreach=False)
    x, labels = torch.randn(8, 28, 28), torch.arange(8)
    for _ in range(5):
        step(x, labels, lr=0.1)
        optimizer.zero_grad()
        cross_entropy(theirs(x), labels).backward()
        optimizer.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_a_frozen_and_an_unused_parameter_stay_as_they_are() -> None:
    network = Unused()
    before = copy.deepcopy(network.state_dict())
    x, labels = torch.randn(64, 28, 28), torch.randint(10, (64,))
    Step(network)(x, labels, lr=0.1)
    changed = [
        n for n, tensor in network.state_dict().items() if not torch.equal(tensor, before[n])
    ]
    assert changed == ["scale"]
