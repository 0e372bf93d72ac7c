"""Notices that the request images look different to a classifier than held-out images.

Each row of outputs has two scores: its margin, the highest output minus the second highest, shows
how sure the model is; its nearness, minus the squared Mahalanobis distance from the mean of the
held-out images of the same predicted class, how usual the outputs are. The row's rank by a score
is the fraction of these held-out images that have a lower one. So another mix of predicted classes
changes no rank, and while rows are like the held-out images, ranks average 0.5.

The alarm bets against that, on both sides: on the mean rank by both scores and, since outputs may
look more usual as the model becomes less sure, on the rank by the margin alone. A stake of s
multiplies its capital by 1 + s (rank - 0.5) - |s| TOLERANCE, and each row brings 1 of new capital.
At a mean capital of THRESHOLD the alarm rings and starts again. As long as the expected ranks of
each row, given the rows before it, are 0.5 ± TOLERANCE, no bet is expected to gain. So among n rows
at most n / THRESHOLD false alarms are to be expected, however often the alarm starts again.

Source: Shin, Ramdas and Rinaldo, "E-detectors: A Nonparametric Framework for Sequential Change
Detection", 2024, https://arxiv.org/abs/2203.03532
"""

import json
from collections.abc import Mapping

import numpy as np

KEY = "reference"  # of the metadata
TOLERANCE = 0.04
THRESHOLD = 1e6
STAKES = np.array([[0.1, 0.3, 0.6, 1, 1.6, -0.1, -0.3, -0.6, -1, -1.6]]).T  # (stakes, 1)
ROWS = 64  # ranked at once
EQUAL = 1e-4  # at most between equal scores, so that those in a file may be rounded
WINDOW = 256  # rows in `Drift.rank`


def scores(
    outputs: np.ndarray, labels: np.ndarray, means: np.ndarray, whitenings: np.ndarray
) -> np.ndarray:
    """Return the margins and the nearnesses (2, N) of outputs (N, classes) float64.

    labels: (N,), the class to which each row is near or not. means: (classes, classes), a row for
    each class. whitenings: (classes, classes, classes), a matrix W for each class, with W W^T the
    inverse of its covariance.
    """
    second, highest = np.partition(outputs, -2, axis=1)[:, -2:].T
    deviations = (outputs - means.take(labels, axis=0))[:, None]
    white = deviations @ whitenings.take(labels, axis=0)  # (N, 1, classes)
    return np.array([highest - second, -np.vecdot(white, white)[:, 0]])


class Reference:
    """The held-out images as the model sees them.

    output: the output whose last axis has the classes. shares: of each predicted class, (classes,).
    means, whitenings: see `scores`. quantiles: of the scores by predicted class,
    (2, classes, levels) ascending.
    """

    def __init__(
        self,
        output: str,
        shares: np.ndarray,
        means: np.ndarray,
        whitenings: np.ndarray,
        quantiles: np.ndarray,
    ) -> None:
        self.output, self.shares = output, shares
        self._means, self._whitenings = means, whitenings
        _, classes, levels = quantiles.shape
        # In one ascending array, so that one search finds all ranks. A quantile is in it twice: an
        # equal score exceeds one of them, so that it counts half.
        groups = np.arange(2 * classes).reshape(2, classes)  # of quantiles, by score and class
        self._shifts, self._starts = groups * (np.ptp(quantiles) + 1), groups * 2 * levels
        apart = quantiles + self._shifts[:, :, None]
        self._quantiles = np.sort([apart - EQUAL, apart + EQUAL], axis=None)
        # What a score adds to the rank, by the number that it exceeds.
        self._halves = ((np.arange(2 * levels + 1) - 1) / (levels - 1) / 4).clip(0, 0.5)

    def ranks(self, outputs: np.ndarray) -> np.ndarray:
        """Return the ranks (2, N) of rows (N, classes) by both scores and by the margin alone, 0
        for a row that is not finite."""
        outputs = outputs.astype(np.float64)
        labels = outputs.argmax(axis=1)
        found = scores(outputs, labels, self._means, self._whitenings)
        ends = self._quantiles.searchsorted(found + self._shifts.take(labels, axis=1))
        exceeded = ends - self._starts.take(labels, axis=1)
        # A score that is beyond all quantiles of its class may be among those of another one.
        margin, nearness = self._halves.take(exceeded, mode="clip")
        return np.array([margin + nearness, 2 * margin]) * np.isfinite(found[1])


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
    output, classes = found["output"], len(labels.get(found["output"], ()))
    if classes < 2:
        raise ValueError(f"{KEY} must name an output with two or more labels, got {output!r}")
    levels = max(2, len(found["quantiles"][0][0]))
    arrays = []
    for name, shape in (
        ("shares", (classes,)),
        ("means", (classes, classes)),
        ("whitenings", (classes, classes, classes)),
        ("quantiles", (2, classes, levels)),
    ):
        array = np.array(found[name], np.float64)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{KEY} must have {name} of shape {shape}, all finite")
        arrays.append(array)
    if (np.diff(arrays[-1]) < 0).any():
        raise ValueError(f"{KEY} must have ascending quantiles")
    return Reference(output, *arrays)


class Alarm:
    """Rings when the mean of ranks of any kind leaves 0.5 ± TOLERANCE."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._capital = np.zeros(1)
        self._factors = 1 - STAKES / 2 - np.abs(STAKES) * TOLERANCE  # at a rank of 0

    def add(self, ranks: np.ndarray) -> int:
        """Return how often the alarm rings over these ranks (kinds, N)."""
        rung = 0
        while ranks.size:
            # Of few rows, so that no product becomes 0; (kinds, stakes, rows).
            factors = self._factors + STAKES * ranks[:, None, :ROWS]
            products = factors.cumprod(axis=2)
            capital = products * (self._capital + (factors / products).cumsum(axis=2))
            over = capital.mean(axis=(0, 1)) >= self._threshold
            first = over.argmax()  # 0 if none is over
            if over[first]:
                rung += 1
                self._capital = np.zeros(1)
                ranks = ranks[:, first + 1 :]
            else:
                self._capital = capital[:, :, -1:]
                ranks = ranks[:, ROWS:]
        return rung


class Drift:
    """Watches the rows of a model.

    alarms: over the rows that were ranked last. rank: the mean by both scores of the last `WINDOW`
    rows.
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
        self._last = np.concatenate([self._last, ranks[0]])[-WINDOW:]
        self.rank = float(self._last.mean()) if len(self._last) else self.rank
        return True
