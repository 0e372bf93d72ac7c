import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, fx, nn

from models import NETWORKS
from models.deep import DeepMLP
from pipeline.study.replay import ReplayedStep, simplify
from pipeline.train.step import sgd_step, trained_parameters

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
BUILDERS = {key: network.build for key, network in NETWORKS.items()} | {
    "deep": DeepMLP,
    "deep, with batch norm and dropout": partial(DeepMLP, batch_norm=True, dropout=0.2),
}


def draw_batches(sizes: list[int], device: str, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Return random images with random labels."""
    source = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, 28, 28, generator=source).to(device, dtype),
            torch.randint(10, (size,), generator=source).to(device),
        )
        for size in sizes
    ]


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("sizes", [[64] * 20, [64] * 19 + [32]], ids=["even", "smaller last"])
def test_replayed_steps_are_those_of_autograd(name: str, device: str, sizes: list[int]) -> None:
    ours = BUILDERS[name]().to(device, torch.float64)
    theirs = copy.deepcopy(ours).train()
    batches = draw_batches(sizes, device, torch.float64)
    step = ReplayedStep(ours)
    torch.manual_seed(1)
    losses = [step(*batch, lr=0.1) for batch in batches]
    torch.manual_seed(1)
    parameters = trained_parameters(theirs)
    expected = [sgd_step(theirs, parameters, *batch, lr=0.1) for batch in batches]
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_first_call_traces_and_takes_exactly_one_step(name: str) -> None:
    ours = BUILDERS[name]().eval()  # the mode that it is in after an evaluation
    theirs = copy.deepcopy(ours).train()
    (batch,) = draw_batches([64], "cpu", torch.float32)
    torch.manual_seed(1)
    loss, state = ReplayedStep(ours)(*batch, lr=0.1), torch.get_rng_state()
    torch.manual_seed(1)
    expected = sgd_step(theirs, trained_parameters(theirs), *batch, lr=0.1)
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    assert torch.equal(state, torch.get_rng_state())


class CountCalls(nn.Module):
    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.fc(images.flatten(1)) * self.calls


def take_a_step(network: nn.Module) -> None:
    (batch,) = draw_batches([64], "cpu", torch.float32)
    ReplayedStep(network)(*batch, lr=0.1)


def test_a_forward_that_tracing_would_freeze_is_an_error() -> None:
    with pytest.raises(AssertionError):
        take_a_step(CountCalls())


def change_output(
    monkeypatch: pytest.MonkeyPatch, index: int, operation: Callable[..., Tensor]
) -> None:
    """Make the trace return something else than its loss, 0, or one of its gradients, 1 to 6."""

    def simplify_and_change(traced: fx.GraphModule) -> fx.GraphModule:
        (output,) = traced.graph.find_nodes(op="output")
        results = list(output.args[0])
        with traced.graph.inserting_before(output):
            results[index] = traced.graph.call_function(operation, (results[index],))
        output.args = (tuple(results),)
        return simplify(traced)

    monkeypatch.setattr("pipeline.study.replay.simplify", simplify_and_change)


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("operation", [torch.neg, torch.zeros_like])
def test_a_trace_with_another_loss_or_gradient_is_an_error(
    index: int, operation: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_output(monkeypatch, index, operation)
    network = NETWORKS["simple_mlp"].build()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(AssertionError, match="not equal"):
        take_a_step(network)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
