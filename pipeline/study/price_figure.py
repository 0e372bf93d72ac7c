"""The figure of experiment `price`."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.data.corruptions import CORRUPTIONS, GEOMETRIC
from pipeline.study.experiments import Tables
from pipeline.study.pair import COLORS, LABELS, MARKERS, NORMED, PLAIN
from pipeline.study.price import TITLES
from pipeline.study.statistics import intervals
from pipeline.study.style import PERCENT, legend, of, sheet


def price(tables: Tables) -> Figure:
    """The accuracy on each kind of images, with an arrow from the statistics of the training to the
    re-estimated ones."""
    figure, ((axes,),) = sheet(1, 1, 11, 7.5)
    gaps = [(kind in CORRUPTIONS) + (kind in GEOMETRIC) for kind in TITLES]  # before the groups
    heights = [row + gap / 2 for row, gap in enumerate(gaps)]

    def draw(key: str, variant: str, label: str, **style: Any) -> pd.Series:
        rows = of(tables["price"], network=key, variant=variant)
        found = (
            intervals(rows, ["corruption"], "test_accuracy").set_index("corruption").loc[[*TITLES]]
        )
        means, half = found["mean"], found["mean"] - found["low"]
        look = {"fmt": MARKERS[key], "color": COLORS[key], "markersize": 10} | style
        axes.errorbar(means, heights, xerr=half, label=label, **look)
        return means

    draw(PLAIN, "as trained", LABELS[PLAIN])
    starts = draw(NORMED, "as trained", LABELS[NORMED], markerfacecolor="white")
    ends = draw(NORMED, "re-estimated", f"{LABELS[NORMED]}, re-estimated")
    for height, start, end in zip(heights, starts, ends, strict=True):
        if abs(end - start) > 0.02:  # or there is no room for an arrow
            arrow = {"arrowstyle": "->", "color": COLORS[NORMED], "shrinkA": 8, "shrinkB": 8}
            axes.annotate("", (end, height), (start, height), arrowprops=arrow, zorder=1)
    axes.set_yticks(heights, [*TITLES.values()])
    axes.invert_yaxis()
    axes.set(xlabel="test accuracy", xlim=(0, 1.02))
    axes.xaxis.set_major_formatter(PERCENT)
    legend(figure, axes, columns=3)
    return figure
