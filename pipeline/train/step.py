"""One step of stochastic gradient descent with autograd, for any network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def sgd_step(
    network: nn.Module, parameters: Sequence[Tensor], x: Tensor, labels: Tensor, lr: float
) -> Tensor:
    """Update the parameters of a network in train mode; return the batch's mean loss, () float32.

    The numbers are those of `torch.optim.SGD`, whose first use imports PyTorch's compiler, which
    takes seconds.

    x: (B, 28, 28) float32; labels: (B,) int64.
    """
    loss = cross_entropy(network(x), labels)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=lr)
    return loss.detach()


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that train."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]
