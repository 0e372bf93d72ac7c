"""The training step of the study's networks: traced once, then replayed.

`make_fx` records the ATen operations of a step's loss and gradients as a flat list. Replaying the
list computes the same numbers without autograd's bookkeeping; `python -m bench.step` times it.
"""

import copy
from collections.abc import Callable
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import cross_entropy

aten = torch.ops.aten
Function = Callable[..., tuple[Tensor, ...]]


class ReplayedStep:
    """The SGD step of one network, traced at the first batch of each shape.

    Each trace must first give what autograd gives, bit for bit. What `forward` computes in plain
    Python is frozen, so this is for the study's networks alone.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._state = dict(network.named_parameters()) | dict(network.named_buffers())
        self._trained = [name for name, p in network.named_parameters() if p.requires_grad]
        self._traces: dict[torch.Size, Function] = {}

    @torch.inference_mode()
    def __call__(self, x: Tensor, labels: Tensor, lr: float) -> Tensor:
        """Update the network in place; return the batch's mean loss, () float32.

        x: (B, 28, 28) float32; labels: (B,) int64.
        """
        if x.shape not in self._traces:
            self._traces[x.shape] = self._trace(x, labels)
        loss, *gradients = self._traces[x.shape](x, labels, *self._state.values())
        for name, gradient in zip(self._trained, gradients, strict=True):
            self._state[name].sub_(gradient, alpha=lr)
        return loss

    @torch.inference_mode(False)
    def _trace(self, x: Tensor, labels: Tensor) -> Function:
        self._network.train()

        def usual(x: Tensor, labels: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            state = dict(zip(self._state, tensors, strict=True))
            loss = cross_entropy(functional_call(self._network, state, (x,)), labels)
            gradients = torch.autograd.grad(loss, [state[name] for name in self._trained])
            return loss.detach(), *gradients

        def results(function: Function) -> list[Tensor]:
            state = copy.deepcopy(list(self._state.values()))  # whose buffers change
            with torch.random.fork_rng([x.device] if x.is_cuda else []):
                return [*function(x, labels, *state), *state]

        made = make_fx(usual, tracing_mode="fake")(x, labels, *self._state.values())
        trace: Function = simplify(made).forward
        expected = results(usual)
        torch.testing.assert_close(results(trace), expected, rtol=0, atol=0, equal_nan=True)
        return trace


def simplify(traced: fx.GraphModule) -> fx.GraphModule:
    """Drop operations that do nothing, and call each other one by its fastest name.

    `torch.mm` is the operation `torch.ops.aten.mm` without the latter's overhead in Python.
    """
    for node in traced.graph.nodes:
        if node.target in (aten.alias.default, aten.detach.default):
            node.replace_all_uses_with(node.args[0])
    traced.graph.eliminate_dead_code()
    for node in traced.graph.nodes:
        if isinstance(node.target, OpOverload):
            node.target = fastest(node.target)
    traced.recompile()
    return traced


def fastest(operation: OpOverload) -> Callable[..., Any]:
    """Return PyTorch's built-in function of the same name, if there is one."""
    name = operation._schema.name.removeprefix("aten::")
    function = getattr(torch, name, None) or getattr(Tensor, name, None)
    if isinstance(function, BuiltinFunctionType | MethodDescriptorType):
        return function
    return operation
