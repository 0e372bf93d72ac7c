"""Bounds how far rounding to float32 can move an exported network's logits apart."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule

from pipeline.data.dataset import IMAGE_SHAPE
from pipeline.export.fold import RESHAPES, bias_of, layer
from pipeline.export.graph import float64_logits

UNIT_ROUNDOFF = 2.0**-24  # of float32
RELUS = {torch.relu, F.relu, "relu", nn.ReLU}
NEUTRAL = RESHAPES | {nn.Identity, nn.Dropout}  # in eval mode

Layers = list[tuple[np.ndarray, np.ndarray]]


def linear_layers(folded: nn.Module) -> Layers | None:
    """Return weight (out, in) and bias (out,) of each layer of a folded network, float64, or None
    unless the network is a chain of at least two linear layers with ReLU between them."""
    if not isinstance(folded, GraphModule):
        return None
    layers: Layers = []
    chain = []
    (node,) = folded.graph.find_nodes(op="placeholder")
    units = math.prod(IMAGE_SHAPE)
    while len(node.users) == 1 and (node := next(iter(node.users))).op != "output":
        module = layer(folded, node)
        kind = type(module) if module else node.target
        if isinstance(module, nn.Linear) and module.in_features == units:
            layers.append((module.weight.detach().numpy(), bias_of(module).detach().numpy()))
            units = module.out_features
            chain.append("linear")
        elif kind in RELUS:
            chain.append("relu")
        elif kind not in NEUTRAL:
            return None
    is_chain = node.op == "output" and chain == (["linear", "relu"] * len(layers))[:-1]
    return layers if is_chain and len(layers) > 1 else None


def gaps(logits: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return the gap between each image's answer (N,) and each of its logits (N, classes)."""
    return np.take_along_axis(logits, answers[:, None], axis=1) - logits


def sum_error(weight: np.ndarray, bias: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return a bound (N, out) on the rounding error of weight @ x + bias in float32, for |x| up to
    size (N, in) and any order of summation.

    A sum of n products is off by at most γ(n) = n u / (1 - n u) times the sum of their absolute
    values. Two more roundings are those of the weight and of adding the bias; products with 0 are
    exact.

    Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1
    """
    n = (size > 0).sum(axis=1, keepdims=True) + 2
    gamma = n * UNIT_ROUNDOFF / (1 - n * UNIT_ROUNDOFF)
    return gamma * (size @ np.abs(weight).T + np.abs(bias))


def gap_bounds(layers: Layers, images: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return a bound (N, classes) on how far rounding to float32 can change the gaps.

    A unit that stays on under any rounding passes its error on through the weights, so errors with
    the same origin cancel between two logits; the last two layers make use of that. One that stays
    off stops the error; any other passes on at most what it received.

    images: (N, *IMAGE_SHAPE) uint8, which are exact; answers: (N,).
    """
    y = images.reshape(len(images), -1).astype(np.float64)
    error = np.zeros_like(y)
    *first, (weight, bias), (last_weight, last_bias) = layers
    for w, b in first:
        z = y @ w.T + b
        error = sum_error(w, b, y + error) + error @ np.abs(w).T
        y, error = np.maximum(z, 0), np.where(z < -error, 0, error)
    z, own = y @ weight.T + bias, sum_error(weight, bias, y + error)
    total = own + error @ np.abs(weight).T
    on = z > total
    total = np.where(z < -total, 0, total)
    last_own = sum_error(last_weight, last_bias, np.maximum(z, 0) + total)

    bounds = last_own + np.take_along_axis(last_own, answers[:, None], axis=1)
    for answer in range(len(last_weight)):
        rows = answers == answer
        difference = last_weight[answer] - last_weight  # (classes, units)
        through = (difference * on[rows, None]) @ weight  # (n, classes, units before)
        bounds[rows] += (np.abs(through) @ error[rows, :, None])[..., 0]
        bounds[rows] += np.where(on, own, total)[rows] @ np.abs(difference).T
    return bounds


def margin(network: nn.Module, folded: nn.Module, images: np.ndarray) -> dict[str, Any] | None:
    """Return `margin_report` for images (N, *IMAGE_SHAPE) uint8, None for an unbounded network."""
    layers, logits = linear_layers(folded), float64_logits(network, images)
    if layers is None:
        return None
    return margin_report(logits, gap_bounds(layers, images, logits.argmax(axis=1)))


def margin_report(logits: np.ndarray, bounds: np.ndarray) -> dict[str, Any]:
    """Return the smallest gap between an answer and another class, and what rounding can do to it.

    smallest: of all gaps. nearest_gap, nearest_bound: where the bound comes closest to the gap.
    proven_images: those whose answer no order of summation in float32 can change.

    logits: (N, classes) float64; bounds: (N, classes), from `gap_bounds`.
    """
    answers = logits.argmax(axis=1)
    found = gaps(logits, answers)
    found[np.arange(len(answers)), answers] = np.inf
    nearest = np.unravel_index((found - bounds).argmin(), found.shape)
    proven = int((found > bounds).all(axis=1).sum())
    return {
        "smallest": float(found.min()),
        "nearest_gap": float(found[nearest]),
        "nearest_bound": float(bounds[nearest]),
        "proven_images": proven,
        "no_flip_possible": proven == len(answers),
    }
