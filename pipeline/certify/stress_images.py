"""Images unlike any test image, on which the backends must agree as well."""

import copy
import math

import numpy as np
import torch
from torch import nn

from pipeline.data.dataset import CLASSES, IMAGE_SHAPE, SCALE, SHIFT

MOST = 1024  # single pixels, or the images of a large shape would not fit into memory


def stress_images(network: nn.Module) -> dict[str, np.ndarray]:
    """Return images (N, *IMAGE_SHAPE) uint8 by kind."""
    random = np.random.default_rng(0)
    size = math.prod(IMAGE_SHAPE)
    places = np.linspace(0, size - 1, min(size, MOST)).astype(int)
    pixels = np.zeros((len(places), size), np.uint8)
    pixels[np.arange(len(places)), places] = 255
    pixels = pixels.reshape(-1, *IMAGE_SHAPE)
    grey = random.integers(0, 256, (256, *IMAGE_SHAPE), np.uint8)
    return {
        "all 0, all 255": np.array([0, 255], np.uint8).repeat(size).reshape(2, *IMAGE_SHAPE),
        "single pixels": np.concatenate([pixels, 255 - pixels]),
        "noise": np.concatenate([grey, (grey >> 7) * 255]),
        "extremes": extreme_images(network),
    }


def extreme_images(network: nn.Module, starts: int = 8) -> np.ndarray:
    """Return images (N, *IMAGE_SHAPE) uint8 of black and white pixels that make each logit as large
    and as small as a search from noise finds.

    Each step moves every pixel to the bound that the gradient points to: for a piecewise linear
    network, the best corner of the current piece.
    """
    network = copy.deepcopy(network).double().eval()
    x = torch.tensor(np.random.default_rng(0).uniform(-1, 1, (2 * CLASSES * starts, *IMAGE_SHAPE)))
    classes = torch.arange(CLASSES).repeat_interleave(2 * starts)
    signs = torch.tensor([1.0, -1.0]).repeat(CLASSES * starts)
    for _ in range(20):
        x.requires_grad_()
        total = (network(x).gather(1, classes[:, None])[:, 0] * signs).sum()
        (gradient,) = torch.autograd.grad(total, x, materialize_grads=True)
        x = gradient.sign()
    pixels = (x.numpy() - SHIFT) / SCALE
    return np.unique(np.where(pixels > 127, 255, 0).astype(np.uint8), axis=0)
