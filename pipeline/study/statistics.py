"""Intervals over seeds, and the verdict that an interval gives on a claim."""

from typing import Literal, NamedTuple

import pandas as pd
from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean over seeds and its Student's confidence interval."""

    mean: float
    low: float
    high: float
    seeds: int


def interval(values: pd.Series) -> Interval:
    """Return the mean of one value per seed with its interval, from at least two seeds."""
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.sem())
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half, len(values))


def intervals(table: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Return mean, low and high over the seeds for each combination of the columns `by`."""
    groups = table.groupby(by, sort=False)[value]
    rows = {names: interval(values) for names, values in groups}
    found = pd.DataFrame(rows.values(), index=pd.MultiIndex.from_tuples(rows, names=by))
    return found.reset_index()


def verdict(difference: Interval, promise: Literal["more", "less"]) -> str:
    """Return the verdict on the promise that a paired difference is above, or below, 0."""
    low, high = difference.low, difference.high
    if promise == "less":
        low, high = -high, -low
    if low > 0:
        return "holds"
    if high <= 0:
        return "does not hold"
    return "cannot tell"
