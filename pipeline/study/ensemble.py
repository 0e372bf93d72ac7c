"""Trains many networks of one shape at once, each as if it were alone, in few large calls.

The members of an ensemble see the same batches; their weights, learning rates and dropout are
their own. Values are (M, units, B), the member first and one column an image: so the channels of
all members lie one after the other, and batch normalisation of all of them is one call.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

aten = torch.ops.aten


@dataclass
class Norm:
    """Batch normalisation behind a linear layer; all tensors are (M * units,)."""

    gamma: Tensor
    beta: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps: float
    unbiased: bool  # whether the running variance is over n - 1, as PyTorch's, or over n


@dataclass
class Layer:
    """A linear layer of every member: weight (M, units, inputs), bias (M, units, 1)."""

    weight: Tensor
    bias: Tensor
    norm: Norm | None = None


@dataclass
class Dropout:
    """Silences each unit with its member's probability (M, 1, 1), equal ones alike."""

    probability: Tensor
    random: torch.Generator

    def mask(self, y: Tensor) -> Tensor:
        """Return what to multiply y (M, units, B) by, so that its mean stays."""
        drawn = torch.rand(y.shape[1:], generator=self.random, device=y.device)
        return (drawn >= self.probability) / (1 - self.probability)


class Kept(NamedTuple):
    """What a hidden layer did: its input x, its sums z, its output y after ReLU."""

    x: Tensor
    z: Tensor
    statistics: tuple[Tensor, Tensor] | None  # mean and 1 / deviation of each channel's z
    y: Tensor
    mask: Tensor | None


class Gradients(NamedTuple):
    """The loss's gradient by a layer's sums z (M, units, B), and by gamma and beta (M * units,);
    by its weight it is z times the layer's input x, transposed."""

    x: Tensor
    z: Tensor
    norm: tuple[Tensor, Tensor] | None = None


def batch_norm(
    members: int,
    units: int,
    device: torch.device,
    eps: float = 1e-5,
    running_var: float = 1.0,
    unbiased: bool = True,
) -> Norm:
    """Return batch normalisation before its first batch, by default as PyTorch's begins."""
    ones, zeros = (torch.full((members * units,), value, device=device) for value in (1.0, 0.0))
    return Norm(ones, zeros, zeros.clone(), torch.full_like(ones, running_var), eps, unbiased)


def linear(layer: Layer, x: Tensor) -> Tensor:
    """Return the sums (M, units, B) for x (M, inputs, B), or (inputs, B) where all share it."""
    if x.dim() == 3:
        return torch.baddbmm(layer.bias, layer.weight, x)
    sums = torch.addmm(layer.bias.view(-1, 1), layer.weight.flatten(0, 1), x)
    return sums.view(*layer.bias.shape[:2], -1)


def normalise_batch(norm: Norm, z: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return z (M, units, B) normalised by its own statistics, and these."""
    y, mean, inverse_std = aten.native_batch_norm(
        z.view(1, -1, z.shape[2]), norm.gamma, norm.beta, None, None,
        training=True, momentum=0, eps=norm.eps,
    )  # fmt: skip
    return y.view(z.shape), (mean, inverse_std)


def track(norm: Norm, mean: Tensor, inverse_std: Tensor, batch_size: int) -> None:
    """Move the running statistics a tenth of the way to the batch's."""
    variance = inverse_std**-2 - norm.eps
    if norm.unbiased:
        variance *= batch_size / (batch_size - 1)
    norm.running_mean.lerp_(mean, 0.1)
    norm.running_var.lerp_(variance, 0.1)


@torch.inference_mode()
def forward(
    network: list[Layer], x: Tensor, dropout: Dropout | None = None
) -> tuple[list[Kept], Tensor, Tensor]:
    """Return what the hidden layers did in train mode with x (inputs, B), the last layer's input
    and logits (M, classes, B)."""
    kept = []
    for layer in network[:-1]:
        y = z = linear(layer, x)
        statistics = None
        if layer.norm:
            y, statistics = normalise_batch(layer.norm, z)
        y = y.relu_()
        mask = dropout.mask(y) if dropout else None
        kept.append(Kept(x, z, statistics, y, mask))
        x = y if mask is None else y * mask
    return kept, x, linear(network[-1], x)


@torch.inference_mode()
def gradients(
    network: list[Layer], x: Tensor, labels: Tensor, dropout: Dropout | None = None
) -> tuple[Tensor, list[Gradients]]:
    """Return each member's mean cross entropy (M,) and its gradients, first layer first.

    x: (inputs, B), labels: (B,). The running statistics move.
    """
    kept, x, logits = forward(network, x, dropout)
    log_probabilities = logits.log_softmax(dim=1)
    answers = labels.expand(len(logits), 1, -1)  # (M, 1, B)
    losses = -log_probabilities.gather(1, answers).mean(dim=(1, 2))

    z = log_probabilities.exp_().scatter_(1, answers, -1, reduce="add")
    z /= z.shape[2]
    found = [Gradients(x, z)]
    for behind, layer, done in zip(network[:0:-1], network[-2::-1], reversed(kept), strict=True):
        y = torch.bmm(behind.weight.mT, z)
        if done.mask is not None:
            y *= done.mask
        z = aten.threshold_backward(y, done.y, 0)
        by_norm = None
        if layer.norm and done.statistics:
            track(layer.norm, *done.statistics, batch_size=z.shape[2])
            flat, *by_norm = aten.native_batch_norm_backward(
                z.view(1, -1, z.shape[2]), done.z.view(1, -1, z.shape[2]), layer.norm.gamma,
                None, None, *done.statistics,
                train=True, eps=layer.norm.eps, output_mask=[True, True, True],
            )  # fmt: skip
            z = flat.view(z.shape)
        found.append(Gradients(done.x, z, by_norm))
    return losses, found[::-1]


@torch.inference_mode()
def sgd_step(
    network: list[Layer], x: Tensor, labels: Tensor, lr: Tensor, dropout: Dropout | None = None
) -> Tensor:
    """Update every member by its learning rate, lr (M, 1, 1); return the batch's losses (M,)."""
    losses, found = gradients(network, x, labels, dropout)
    for layer, gradient in zip(network, found, strict=True):
        step = gradient.z * -lr
        if gradient.x.dim() == 3:
            layer.weight.baddbmm_(step, gradient.x.mT)
        else:
            layer.weight.flatten(0, 1).addmm_(step.flatten(0, 1), gradient.x.T)
        layer.bias.add_(step.sum(dim=2, keepdim=True))
        if layer.norm and gradient.norm:
            lr_of_channel = lr.expand_as(layer.bias).reshape(-1)
            layer.norm.gamma.addcmul_(gradient.norm[0], lr_of_channel, value=-1)
            layer.norm.beta.addcmul_(gradient.norm[1], lr_of_channel, value=-1)
    return losses


@torch.inference_mode()
def predict(network: list[Layer], x: Tensor) -> Tensor:
    """Return logits (M, classes, N) in eval mode for x (inputs, N)."""
    for layer in network[:-1]:
        x = linear(layer, x)
        if layer.norm:
            norm, shape = layer.norm, layer.bias.shape
            scale = norm.gamma / (norm.running_var + norm.eps).sqrt()
            shift = norm.beta - scale * norm.running_mean
            x = torch.addcmul(shift.view(shape), x, scale.view(shape))
        x = x.relu_()
    return linear(network[-1], x)


def accuracy(network: list[Layer], x: Tensor, labels: Tensor) -> Tensor:
    """Return each member's share of right answers (M,); broken logits (NaN) answer as argmax."""
    parts = x.split(1000, dim=1)  # what fits into the processor's cache
    answers = torch.cat([predict(network, part).argmax(dim=1) for part in parts], dim=1)
    return (answers == labels).double().mean(dim=1)
