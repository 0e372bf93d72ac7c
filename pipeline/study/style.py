"""The style of the study's figures: large letters, and the same bytes from the same numbers."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipeline.study.pair import COLORS, LABELS
from pipeline.study.statistics import intervals

PERCENT = PercentFormatter(1, decimals=0)
SETTINGS: Any = {
    "font.size": 14,
    "axes.titlesize": 14,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2,
    "lines.markersize": 5,
    "legend.frameon": False,
}


def sheet(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    """Return a figure and its axes (rows, columns), with the size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def of(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Return the rows with these values."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def curve(axes: Axes, table: pd.DataFrame, x: str, y: str, key: str, **more: Any) -> None:
    """Plot a network's mean over the seeds as a line, and its 95 % interval as a band."""
    found = intervals(table, [x], y)
    style = {"color": COLORS[key], "label": LABELS[key]} | more
    axes.plot(found[x], found["mean"], **style)
    high = found["high"].clip(upper=1) if y.endswith("accuracy") else found["high"]
    axes.fill_between(found[x], found["low"], high, color=style["color"], alpha=0.2, lw=0)


def legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Add one legend for all axes above them, from the curves of one."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=columns)
