"""One step of stochastic gradient descent, for any network: traced once, then replayed.

`make_fx` records the ATen operations of `plain_step`, gradients included, as a flat list. Replaying
the list computes the same numbers without autograd's bookkeeping; `python -m bench.step` times it.
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


def plain_step(
    network: nn.Module, state: dict[str, Tensor], x: Tensor, labels: Tensor, lr: float
) -> Tensor:
    """Update `state`, the network's parameters and buffers, in place; return the mean loss, ().

    x: (B, 28, 28) float32; labels: (B,) int64.
    """
    loss = cross_entropy(functional_call(network, state, (x,)), labels)
    parameters = [state[name] for name, p in network.named_parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.sub_(gradient, alpha=lr)
    return loss.detach()


class TracedStep:
    """`plain_step` for one network and learning rate, traced at the first batch of each shape.

    Every trace is first replayed on a copy of the network and compared with autograd and
    `torch.optim.SGD`. What `forward` computes in plain Python is frozen: if that changes in a later
    step, as a counter of steps does, no check can notice.
    """

    def __init__(self, network: nn.Module, lr: float) -> None:
        self._network, self._lr = network, lr
        self._traces: dict[torch.Size, Callable[..., Tensor]] = {}

    @torch.inference_mode()
    def __call__(self, x: Tensor, labels: Tensor) -> Tensor:
        """Update the network in place; return the batch's mean loss, () float32.

        x: (B, 28, 28) float32; labels: (B,) int64.

        Raises:
            ValueError: the network cannot be traced.
        """
        if x.shape not in self._traces:
            self._traces[x.shape] = self._trace(x, labels)
        return self._traces[x.shape](x, labels)

    @torch.inference_mode(False)
    def _trace(self, x: Tensor, labels: Tensor) -> Callable[..., Tensor]:
        self._network.train()
        names, tensors = zip(*_state(self._network).items(), strict=True)

        def step(x: Tensor, labels: Tensor, *state: Tensor) -> Tensor:
            named = dict(zip(names, state, strict=True))
            return plain_step(self._network, named, x, labels, self._lr)

        try:
            traced = make_fx(step, tracing_mode="fake")(x, labels, *tensors)
        except Exception as error:  # PyTorch raises a different type for each cause
            raise ValueError(
                f"{type(self._network).__name__} cannot be traced: {error}\nIts forward must not "
                "choose its path by the values of tensors, as in `if x.mean() > 0`"
            ) from error
        replay = simplify(traced).forward
        self._check(replay, x, labels)
        return lambda x, labels: replay(x, labels, *tensors)

    def _check(self, replay: Callable[..., Tensor], x: Tensor, labels: Tensor) -> None:
        ours, theirs = copy.deepcopy(self._network), copy.deepcopy(self._network)
        devices = [x.device] if x.is_cuda else []
        try:
            with torch.random.fork_rng(devices), torch.inference_mode():
                loss = replay(x, labels, *_state(ours).values())
            with torch.random.fork_rng(devices):
                expected = autograd_step(theirs, x, labels, self._lr)
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
