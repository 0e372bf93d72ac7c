"""Notices that a classifier is less sure of the request images, or surer, than of held-out images.

The margin of a row is its highest output minus the second highest. The row's rank is the fraction
of the held-out images of the same predicted class that have a smaller margin, so that another mix
of predicted classes changes no rank. While rows are like the held-out images, ranks average 0.5.

The alarm bets against that, on both sides. A stake of s multiplies its capital by
1 + s (rank - 0.5) - |s| TOLERANCE, and each row brings 1 of new capital.
At a mean capital of THRESHOLD the alarm rings and starts again. As long as the expected rank of
each row, given the rows before it, is 0.5 ± TOLERANCE, no bet is expected to gain. So among n rows
at most n / THRESHOLD false alarms are to be expected, however often the alarm starts again.

Source: Shin, Ramdas and Rinaldo, "E-detectors: A Nonparametric Framework for Sequential Change
Detection", 2024, https://arxiv.org/abs/2203.03532
"""

import json
from collections.abc import Mapping

import numpy as np

KEY = "margins"  # of the metadata
TOLERANCE = 0.05
THRESHOLD = 1e6
STAKES = np.array([0.1, 0.3, 0.6, 1.0, -0.1, -0.3, -0.6, -1.0])  # for higher and for lower ranks
ROWS = 64  # ranked at once
WINDOW = 256  # rows in `Drift.rank`


def margins(outputs: np.ndarray) -> np.ndarray:
    """Return the highest output of each row (N, classes) minus the second highest, (N,)."""
    second, highest = np.partition(outputs, (-2, -1), axis=1)[:, -2:].T.astype(np.float64)
    return np.asarray(highest - second)


class Reference:
    """The held-out images as the model sees them.

    output: the output whose last axis has the classes. shares: of each predicted class, (classes,).
    quantiles: of the margins, by predicted class, (classes, levels) ascending.
    """

    def __init__(self, output: str, shares: np.ndarray, quantiles: np.ndarray) -> None:
        self.output, self.shares = output, shares
        self._levels = quantiles.shape[1]
        self._most = quantiles.max() + 1
        # In one ascending array, so that one search finds the ranks of all classes.
        self._quantiles = (quantiles + self._offsets(np.arange(len(quantiles)))[:, None]).ravel()

    def _offsets(self, labels: np.ndarray) -> np.ndarray:
        return labels * (self._most + 1)

    def ranks(self, outputs: np.ndarray) -> np.ndarray:
        """Return the ranks (N,) of rows (N, classes): 0 for a margin below all, 1 for one above."""
        labels = outputs.argmax(axis=1)
        margin = np.minimum(margins(outputs), self._most) + self._offsets(labels)
        search = self._quantiles.searchsorted
        below = search(margin, "left") + search(margin, "right") - 2 * self._levels * labels
        return ((below - 1) / 2 / (self._levels - 1)).clip(0, 1)


def read_reference(
    metadata: Mapping[str, str], labels: Mapping[str, list[str]]
) -> Reference | None:
    """Return the reference in a model's metadata, or None if it has none.

    labels: the names of the classes, by output.

    Raises:
        ValueError: it is invalid.
    """
    if KEY not in metadata:
        return None
    found = json.loads(metadata[KEY])
    shares, quantiles = (np.array(found[name], np.float64) for name in ("shares", "quantiles"))
    classes = len(labels.get(found["output"], ()))
    if classes < 2 or shares.shape != (classes,) or quantiles.shape[:1] != (classes,):
        raise ValueError(f"{KEY} must have a share and quantiles for each class of an output")
    if quantiles.ndim != 2 or quantiles.shape[1] < 2 or not np.isfinite(quantiles).all():
        raise ValueError(f"{KEY} must have at least two finite quantiles for each class")
    if not (np.diff(quantiles, prepend=0) >= 0).all():
        raise ValueError(f"{KEY} must have quantiles from 0 on, ascending")
    return Reference(found["output"], shares, quantiles)


class Alarm:
    """Rings when the mean of ranks leaves 0.5 ± TOLERANCE."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._capital = np.zeros(len(STAKES))

    def add(self, ranks: np.ndarray) -> int:
        """Return how often the alarm rings over these ranks (N,)."""
        rung = 0
        while len(ranks):
            above = ranks[:ROWS, None] - 0.5  # few, so that no product becomes 0
            factors = 1 + STAKES * above - np.abs(STAKES) * TOLERANCE  # (rows, stakes)
            products = factors.cumprod(axis=0)
            capital = products * (self._capital + (factors / products).cumsum(axis=0))
            over = np.flatnonzero(capital.mean(axis=1) >= self._threshold)
            end = over[0] + 1 if len(over) else len(capital)
            self._capital = np.zeros_like(self._capital) if len(over) else capital[-1]
            rung += bool(len(over))
            ranks = ranks[end:]
        return rung


class Drift:
    """Watches the rows of a model.

    alarms: over the rows that were ranked last. rank: the mean of the last `WINDOW` rows.
    """

    def __init__(self, reference: Reference) -> None:
        self.alarms = 0
        self.rank = float("nan")  # before the first `ROWS`
        self._reference = reference
        self._alarm = Alarm()
        self._last = np.empty(0)
        self._waiting: list[np.ndarray] = []
        self._rows = 0

    def add(self, outputs: np.ndarray) -> bool:
        """Add the outputs (..., classes) of a batch; return whether rows were ranked, which waits
        for `ROWS`, since one at a time would cost as much."""
        rows = outputs.reshape(-1, outputs.shape[-1])
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._rows < ROWS and len(self._waiting) < ROWS:
            return False
        waiting, self._waiting, self._rows = self._waiting, [], 0
        ranks = self._reference.ranks(np.concatenate(waiting))
        self.alarms = self._alarm.add(ranks)
        self._last = np.concatenate([self._last, ranks])[-WINDOW:]
        self.rank = float(self._last.mean()) if len(self._last) else self.rank
        return True
