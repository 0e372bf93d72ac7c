import pytest
import torch
from torch import nn

from models import NETWORKS, BatchNormMLP
from pipeline.artifacts import KEYS
from pipeline.step import layers, sgd_step


def autograd_step(network: nn.Module, x: torch.Tensor, labels: torch.Tensor, lr: float) -> float:
    optimiser = torch.optim.SGD(network.parameters(), lr=lr)
    optimiser.zero_grad()
    loss = nn.functional.cross_entropy(network.train()(x), labels)
    loss.backward()
    optimiser.step()
    return loss.item()


@pytest.mark.parametrize("key", KEYS)
def test_a_step_is_what_autograd_and_sgd_do(key: str) -> None:
    ours, theirs = NETWORKS[key]().double(), NETWORKS[key]().double()
    theirs.load_state_dict(ours.state_dict())
    for _ in range(20):
        x, labels = torch.randn(64, 784).double(), torch.randint(10, (64,))
        loss = sgd_step(layers(ours), x, labels, lr=0.1)
        assert loss.item() == pytest.approx(autograd_step(theirs, x, labels, lr=0.1), abs=1e-12)
    for name, expected in theirs.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], expected, rtol=0, atol=1e-12), name


def test_layers_pairs_each_linear_with_the_batch_norm_behind_it() -> None:
    network = BatchNormMLP()
    assert layers(network) == [
        (network.fc1, network.bn1),
        (network.fc2, network.bn2),
        (network.fc3, None),
    ]
