"""One step of stochastic gradient descent with the gradients written out, for both networks.

It computes what `loss.backward()` and `torch.optim.SGD` compute (a test holds it to that), in
fewer, larger calls: `make bench` shows how near it comes to its own matrix products.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

Layer = tuple[nn.Linear, nn.BatchNorm1d | None]

aten = torch.ops.aten


def layers(network: nn.Module) -> list[Layer]:
    """Return the linear layers in order, each with the batch normalisation that follows it."""
    modules = [*network.children(), None]
    return [
        (linear, following if isinstance(following, nn.BatchNorm1d) else None)
        for linear, following in pairwise(modules)
        if isinstance(linear, nn.Linear)
    ]


def normalise_batch(norm: nn.BatchNorm1d, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return z (B, units) normalised by its own statistics, its mean and 1 / standard deviation."""
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    return aten.native_batch_norm(
        z, norm.weight, norm.bias, norm.running_mean, norm.running_var,
        training=True, momentum=norm.momentum, eps=norm.eps,
    )  # fmt: skip


@torch.inference_mode()
def sgd_step(network: list[Layer], x: Tensor, labels: Tensor, lr: float) -> Tensor:
    """Update parameters and running statistics in place; return the batch's mean loss, ().

    x: (B, 784) float32; labels: (B,) int64, 0 to 9.
    """
    *hidden, (last, _) = network

    # Forward: z before batch normalisation, y after it, then ReLU makes the next layer's x.
    kept = []
    for linear, norm in hidden:
        y = z = torch.addmm(linear.bias, x, linear.weight.T)  # (B, units)
        mean = inverse_std = None
        if norm:
            y, mean, inverse_std = normalise_batch(norm, z)
        kept.append((linear, norm, x, z, mean, inverse_std, y))
        x = y.relu_()
    log_probabilities = torch.addmm(last.bias, x, last.weight.T).log_softmax(dim=1)  # (B, 10)
    loss = nn.functional.nll_loss(log_probabilities, labels)

    # Backward: `gradient` is the loss's with respect to the output of the linear layer at hand.
    gradient = log_probabilities.exp_().scatter_(1, labels[:, None], -1, reduce="add")
    gradient /= len(labels)
    updates = [(last, x, gradient)]
    for linear, norm, x, z, mean, inverse_std, y in reversed(kept):
        gradient = aten.threshold_backward(gradient @ updates[-1][0].weight, y, 0)
        if norm:
            gradient, gamma_gradient, beta_gradient = aten.native_batch_norm_backward(
                gradient, z, norm.weight, norm.running_mean, norm.running_var, mean, inverse_std,
                train=True, eps=norm.eps, output_mask=[True, True, True],
            )  # fmt: skip
            norm.weight.sub_(gamma_gradient, alpha=lr)
            norm.bias.sub_(beta_gradient, alpha=lr)
        updates.append((linear, x, gradient))

    # Update: only now, since the gradients above are those of the weights before the step.
    for linear, x, gradient in updates:
        linear.weight.addmm_(gradient.T, x, alpha=-lr)
        linear.bias.sub_(gradient.sum(0), alpha=lr)
    return loss
