"""How near the deployed network comes to another answer, and how far rounding can carry it."""

from typing import Any

import numpy as np

UNIT_ROUNDOFF = 2.0**-24  # of float32


def margins(logits: np.ndarray) -> np.ndarray:
    """Return how far the largest of each image's logits (N, 10) lies above the second, (N,)."""
    second, first = np.sort(logits, axis=1)[:, -2:].T
    return first - second


def rounding_bound(layers: list[tuple[np.ndarray, np.ndarray]], images: np.ndarray) -> np.ndarray:
    """Return how far rounding to float32 can carry the logits of the folded layers, (N, 10).

    It holds for any order of summation and any batch size: a sum of n products is off by at most
    γ(n) = n u / (1 - n u) times the sum of their absolute values. Two more roundings are those of
    the weight and of the bias's addition; a product with 0 is exact. An error that comes in is
    multiplied by the absolute weights, and ReLU makes none larger.

    Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1
    """
    x = images.reshape(len(images), -1).astype(np.float64)
    error: np.ndarray | float = 0.0  # the pixels have none
    for weight, bias in layers:
        absolute = np.abs(weight).T
        size = np.abs(x) + error
        n = (size > 0).sum(axis=1, keepdims=True) + 2
        gamma = n * UNIT_ROUNDOFF / (1 - n * UNIT_ROUNDOFF)
        carried = error @ absolute if isinstance(error, np.ndarray) else error
        error = carried + gamma * (size @ absolute + np.abs(bias))
        x = np.maximum(x @ weight.T + bias, 0)  # of no use after the last layer
    assert isinstance(error, np.ndarray)
    return error


def margin_report(truth: np.ndarray, bound: np.ndarray, largest_error: float) -> dict[str, Any]:
    """Return the margins of the float64 logits beside what rounding can do.

    smallest: of all margins. needed: what a margin must exceed for an answer not to flip, twice the
    largest error that was measured on these images, PyTorch's own included. proven_images: how many
    have margins that no float32 arithmetic whatever can use up, by `rounding_bound`.

    truth, bound: (N, 10) float64; largest_error: of float32 logits, against the truth.
    """
    rows = np.arange(len(truth))
    answers = truth.argmax(axis=1)
    gaps = truth[rows, answers][:, None] - truth - bound - bound[rows, answers][:, None]
    gaps[rows, answers] = np.inf
    smallest = float(margins(truth).min())
    return {
        "smallest": smallest,
        "needed": 2 * largest_error if np.isfinite(largest_error) else None,
        "no_flip_possible": smallest > 2 * largest_error,
        "proven_images": int((gaps > 0).all(axis=1).sum()),
    }
