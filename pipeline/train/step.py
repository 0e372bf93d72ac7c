"""One step of stochastic gradient descent with autograd, for any network."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Step:
    """The step of one network.

    The numbers are those of `torch.optim.SGD`, whose first use imports PyTorch's compiler, which
    takes seconds.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network.train()
        self._parameters = [*network.parameters()]

    def __call__(self, x: Tensor, labels: Tensor, lr: float) -> Tensor:
        """Update the network in place; return the batch's mean loss, () float32.

        x: (B, …) float32; labels: (B,) int64.
        """
        if not self._network.training:  # after an evaluation
            self._network.train()
        loss = cross_entropy(self._network(x), labels)
        parameters = [p for p in self._parameters if p.requires_grad]  # forward may change that
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=lr)
        return loss.detach()
