"""Measures how far the request images are from the training images, by the first layer's units.

Batch normalization gives each unit of the first layer mean beta and standard deviation |gamma| over
the training images. Over a window of request images, the unit has mean m and standard deviation s;
with a = (m - beta) / |gamma| and b = s / |gamma|, the drift of the unit is the Kullback-Leibler
divergence of N(a, b²) from N(0, 1), (a² + b² - 1) / 2 - ln b, and the score is the mean over units.

Source: Kullback and Leibler, "On Information and Sufficiency", 1951; for two normal distributions
https://en.wikipedia.org/wiki/Kullback-Leibler_divergence#Examples
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

KEYS = ("drift_tensor", "unit_mean", "unit_std")

# Images per score. A smaller window reacts sooner but separates less: of 1,000 random windows of
# 256 images, those of the test set score at most 0.012 and those of images shifted by 2 pixels at
# least 0.036; with 64 images, it is 0.038 and 0.041 (`python -m bench.drift`).
WINDOW = 256


def drift_score(mean: np.ndarray, variance: np.ndarray) -> float:
    """Return the score of standardized moments, both (units,): 0 if they are 0 and 1."""
    variance = np.maximum(variance, 1e-12)  # constant units
    return float(np.mean((mean**2 + variance - 1 - np.log(variance)) / 2))


@dataclass(frozen=True)
class Statistics:
    """The drift tensor's name, and its moments over the training images, (units,) float64."""

    tensor: str
    mean: np.ndarray
    std: np.ndarray

    def check(self, values: np.ndarray) -> None:
        """Raise ValueError unless these may be values of the drift tensor, (N, units) float32."""
        if values.dtype != np.float32 or values.shape[1:] != self.mean.shape:
            raise ValueError(
                f"{self.tensor} must be float32 [-1, {len(self.mean)}], got {values.dtype} "
                f"[-1, {', '.join(map(str, values.shape[1:]))}]"
            )


def read_statistics(metadata: Mapping[str, str]) -> Statistics | None:
    """Return the statistics in a model's metadata, or None if it has none.

    Raises:
        ValueError: some are missing or invalid.
    """
    found = [key for key in KEYS if key in metadata]
    if not found:
        return None
    if len(found) < len(KEYS):
        raise ValueError(f"its metadata must have all or none of {KEYS}, got {found}")
    moments = {key: np.array(json.loads(metadata[key]), np.float64) for key in KEYS[1:]}
    mean, std = moments.values()
    if mean.ndim != 1 or mean.shape != std.shape:
        shapes = {key: moment.shape for key, moment in moments.items()}
        raise ValueError(f"unit_mean and unit_std must be one number per unit, got {shapes}")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError("unit_mean must be finite, and unit_std finite and > 0")
    return Statistics(metadata["drift_tensor"], mean, std)


class DriftWindow:
    """Accumulates the first layer's moments and scores every full window.

    score: the score of the last full window, NaN before the first one.
    """

    def __init__(self, statistics: Statistics) -> None:
        self.tensor = statistics.tensor
        self._mean = statistics.mean
        self._std = statistics.std
        self.score = float("nan")
        self._begin()

    def _begin(self) -> None:
        self._count = 0
        self._sum = np.zeros(len(self._mean))
        self._square_sum = np.zeros(len(self._mean))

    def add(self, units: np.ndarray) -> bool:
        """Add the units (N, units) of a batch; return whether it has filled the window."""
        self._count += len(units)
        self._sum += units.sum(axis=0)
        self._square_sum += np.einsum("nu,nu->u", units, units)
        if self._count < WINDOW:
            return False
        mean = self._sum / self._count
        variance = self._square_sum / self._count - mean**2
        self.score = drift_score((mean - self._mean) / self._std, variance / self._std**2)
        self._begin()
        return True
