"""One step of stochastic gradient descent, for any network: traced once, then replayed.

`make_fx` records the ATen operations of `loss_and_gradients` as a flat list. Replaying the list
computes the same numbers without autograd's bookkeeping; `python -m bench.step` times it.
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


def loss_and_gradients(
    network: nn.Module, state: dict[str, Tensor], x: Tensor, labels: Tensor
) -> tuple[Tensor, ...]:
    """Return the mean loss, (), and the gradient of each parameter that trains.

    state: the network's parameters and buffers by name; x: (B, 28, 28) float32; labels: (B,) int64.
    """
    loss = cross_entropy(functional_call(network, state, (x,)), labels)
    parameters = [state[name] for name, p in network.named_parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return loss.detach(), *gradients


class TracedStep:
    """The SGD step of one network, whose gradients are traced at the first batch of each shape.

    Each trace first takes a step with a copy of the network, which must equal the step of autograd
    and `torch.optim.SGD`. What `forward` computes in plain Python is frozen: if that changes in a
    later step, as a counter of steps does, no check can notice.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._tensors = list(_state(network).values())
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._traces: dict[torch.Size, Callable[..., tuple[Tensor, ...]]] = {}

    @torch.inference_mode()
    def __call__(self, x: Tensor, labels: Tensor, lr: float) -> Tensor:
        """Update the network in place; return the batch's mean loss, () float32.

        x: (B, 28, 28) float32; labels: (B,) int64.

        Raises:
            ValueError: the network cannot be traced.
        """
        if x.shape not in self._traces:
            trace = self._trace(x, labels)
            self._check(trace, x, labels, lr)
            self._traces[x.shape] = trace
        loss, *gradients = self._traces[x.shape](x, labels, *self._tensors)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=lr)
        return loss

    @torch.inference_mode(False)
    def _trace(self, x: Tensor, labels: Tensor) -> Callable[..., tuple[Tensor, ...]]:
        self._network.train()
        names = list(_state(self._network))

        def function(x: Tensor, labels: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            state = dict(zip(names, tensors, strict=True))
            return loss_and_gradients(self._network, state, x, labels)

        try:
            traced = make_fx(function, tracing_mode="fake")(x, labels, *self._tensors)
        except Exception as error:  # PyTorch raises a different type for each cause
            raise ValueError(
                f"{type(self._network).__name__} cannot be traced: {error}\nIts forward must not "
                "choose its path by the values of tensors, as in `if x.mean() > 0`"
            ) from error
        return simplify(traced).forward

    @torch.inference_mode(False)
    def _check(
        self, trace: Callable[..., tuple[Tensor, ...]], x: Tensor, labels: Tensor, lr: float
    ) -> None:
        ours, theirs = copy.deepcopy(self._network), copy.deepcopy(self._network)
        step = TracedStep(ours)
        step._traces[x.shape] = trace
        devices = [x.device] if x.is_cuda else []
        try:
            with torch.random.fork_rng(devices):
                loss = step(x, labels, lr)
            with torch.random.fork_rng(devices):
                expected = autograd_step(theirs, x, labels, lr)
            torch.testing.assert_close(loss, expected, rtol=0, atol=0, equal_nan=True)
            torch.testing.assert_close(_state(ours), _state(theirs), rtol=0, atol=0, equal_nan=True)
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f"{type(self._network).__name__} cannot be traced: its replayed step differs "
                f"from autograd: {error}\nIts forward must update buffers in place, and must not "
                "keep tensors or change values of its own in Python"
            ) from error


def autograd_step(network: nn.Module, x: Tensor, labels: Tensor, lr: float) -> Tensor:
    """Update the network in the usual way, with autograd and `torch.optim.SGD`; return the loss.

    x: (B, 28, 28) float32; labels: (B,) int64.
    """
    loss = cross_entropy(network(x), labels)
    optimizer = torch.optim.SGD(network.parameters(), lr, foreach=False)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def _state(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters()) | dict(network.named_buffers())


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
