"""One style for all figures of the study: large letters, colours that the colour-blind tell apart,
and the same bytes from the same numbers."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipeline.figure import STYLES
from pipeline.study.statistics import intervals

LABELS = {"simple_mlp": "without batch norm", "batchnorm_mlp": "with batch norm"}
COLOURS = {key: colour for key, (_, colour, _) in STYLES.items()}
MARKERS = {key: marker for key, (_, _, marker) in STYLES.items()}
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
    "svg.hashsalt": "study",  # or the names of an SVG's parts are random
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the study's style inside."""
    with matplotlib.rc_context(SETTINGS):
        yield


def sheet(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    """Return a figure and its axes, (rows, columns); sizes are in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def of(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Return the rows with these values."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def name_axes(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Name both axes, with their units."""
    axes.set(xlabel=x, ylabel=y, title=title)


def curve(axes: Axes, table: pd.DataFrame, x: str, y: str, key: str, **more: Any) -> None:
    """Plot a network's mean over the seeds as a line, its 95 % interval as a band."""
    found = intervals(table, [x], y)
    style = {"color": COLOURS[key], "label": LABELS[key]} | more
    axes.plot(found[x], found["mean"], **style)
    high = found["high"].clip(upper=1) if y.endswith("accuracy") else found["high"]
    axes.fill_between(found[x], found["low"], high, color=style["color"], alpha=0.2, lw=0)


def legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Explain the curves of one of the axes once, above all of them."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=columns)


def render(figure: Figure) -> dict[str, bytes]:
    """Return the figure as `png` and as `svg`, without the date."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    figure.set_layout_engine("none")  # it has found every place, and would search again
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return {"png": png.getvalue(), "svg": svg.getvalue()}
