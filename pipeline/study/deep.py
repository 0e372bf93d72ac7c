"""The deeper network of three of the experiments: five hidden layers of 100 units each.

Weights are normally distributed, biases 0, images in [0, 1], batches of 100, and batch
normalisation as in the figure that `pipeline.study.scale` repeats.

Source: Saito, "Deep Learning from Scratch", O'Reilly Japan, 2016, chapter 6
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pipeline.study.ensemble import Layer, batch_norm

SIZES = (784, 100, 100, 100, 100, 100, 10)
HIDDEN = len(SIZES) - 2
BATCH_SIZE = 100
LR = 0.01

HE = (2 / 100) ** 0.5  # the standard deviations that are advised for a hidden layer
XAVIER = (1 / 100) ** 0.5


def standard_weights(random: torch.Generator) -> list[Tensor]:
    """Return one network's weights (units, inputs) with mean 0 and standard deviation 1."""
    return [torch.randn(units, inputs, generator=random) for inputs, units in pairwise(SIZES)]


def he_scales() -> Tensor:
    """Return the standard deviation that He's rule gives each layer, (layers,).

    Source: He et al., "Delving Deep into Rectifiers", 2015, https://arxiv.org/abs/1502.01852
    """
    return (2 / torch.tensor(SIZES[:-1])).sqrt()


def deep_networks(
    weights: list[Tensor], scales: Tensor, normed: bool, device: torch.device
) -> list[Layer]:
    """Return one member for each row of scales (M, layers), which multiply the same weights."""
    layers = []
    for number, weight in enumerate(weights):
        scaled = (scales[:, number, None, None] * weight).to(device)  # (M, units, inputs)
        members, units, _ = scaled.shape
        layers.append(Layer(scaled, torch.zeros(members, units, 1, device=device)))
        if normed and number < HIDDEN:
            norm = batch_norm(members, units, device, eps=1e-6, running_var=0.0, unbiased=False)
            layers[-1].norm = norm
    return layers


def columns(images: np.ndarray, device: torch.device) -> Tensor:
    """Return images (N, 28, 28) uint8 as x (784, N) in [0, 1]."""
    return torch.tensor(images, device=device).flatten(1).T.div(255)


def draw_batches(images: int, updates: int, random: torch.Generator) -> Tensor:
    """Return the indices of the images of each batch (updates, B), drawn with replacement."""
    return torch.randint(images, (updates, BATCH_SIZE), generator=random)
