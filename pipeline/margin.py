"""How near the deployed network comes to another answer, and how far rounding can carry it."""

from typing import Any

import numpy as np

UNIT_ROUNDOFF = 2.0**-24  # of float32

Layers = list[tuple[np.ndarray, np.ndarray]]


def gaps(logits: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return how far each image's answer (N,) lies above each of its logits (N, 10)."""
    return np.take_along_axis(logits, answers[:, None], axis=1) - logits


def sum_error(weight: np.ndarray, bias: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return how far rounding to float32 can carry weight @ x + bias, (N, out), for |x| up to size
    (N, in), in whatever order it is summed.

    A sum of n products is off by at most γ(n) = n u / (1 - n u) times the sum of their absolute
    values. Two more roundings are those of the weight and of the bias's addition; a product with 0
    is exact.

    Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1
    """
    n = (size > 0).sum(axis=1, keepdims=True) + 2
    gamma = n * UNIT_ROUNDOFF / (1 - n * UNIT_ROUNDOFF)
    return gamma * (size @ np.abs(weight).T + np.abs(bias))


def gap_bounds(layers: Layers, images: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return how far rounding to float32 can carry the gaps (N, 10) of the three folded layers.

    Through a unit that is on, whatever rounding does, an error passes as through the weights, and
    errors of the same origin cancel between two logits. One that is surely off stops it; one that
    is neither lets through no more than came.

    layers: float64; images: (N, 28, 28) uint8, which are exact; answers: (N,).
    """
    (weight1, bias1), (weight2, bias2), (weight3, bias3) = layers
    x = images.reshape(len(images), -1).astype(np.float64)
    z1, error1 = x @ weight1.T + bias1, sum_error(weight1, bias1, x)
    y1, error1 = np.maximum(z1, 0), np.where(z1 < -error1, 0, error1)
    z2, own2 = y1 @ weight2.T + bias2, sum_error(weight2, bias2, y1 + error1)
    error2 = own2 + error1 @ np.abs(weight2).T
    on = z2 > error2
    error2 = np.where(z2 < -error2, 0, error2)
    own3 = sum_error(weight3, bias3, np.maximum(z2, 0) + error2)

    bounds = own3 + np.take_along_axis(own3, answers[:, None], axis=1)
    for digit in range(len(weight3)):
        its = answers == digit
        difference = weight3[digit] - weight3  # (10, units of the second layer)
        through = (difference * on[its, None]) @ weight2  # (n, 10, units of the first layer)
        bounds[its] += (np.abs(through) @ error1[its, :, None])[..., 0]
        bounds[its] += np.where(on, own2, error2)[its] @ np.abs(difference).T
    return bounds


def margin_report(logits: np.ndarray, answers: np.ndarray, bounds: np.ndarray) -> dict[str, Any]:
    """Return the smallest gap between an answer and another, and what rounding can do to it.

    smallest: of all gaps. nearest_gap, nearest_bound: where rounding can use up most of a gap.
    proven_images: how many keep their answer in whatever order float32 sums.

    logits: (N, 10) float64; answers: (N,); bounds: (N, 10), by `gap_bounds`.
    """
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
