"""The figures of experiment `activations`: what happens layer by layer inside the networks."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.study import activations, deep
from pipeline.study.experiments import Tables
from pipeline.study.pair import COLORS, LABELS, MARKERS, PAIR
from pipeline.study.style import PERCENT, curve, legend, of, sheet

SHADES = np.linspace(0.25, 1, len(deep.HIDDEN))
BY_LAYER = {
    "before training": {"spread": "spread of activations", "gradient": "size of the gradient"},
    "after training": {"zeros": "activations that are 0", "dead": "dead units"},
}


def histograms(tables: Tables, moment: str) -> Figure:
    """The activations of five layers at three scales, without and with batch normalization."""
    figure, grid = sheet(2, 3, 14, 8)
    edges = 10 ** activations.BINS.numpy()
    for row, key in zip(grid, PAIR, strict=True):
        for axes, (name, std) in zip(row, activations.SCALES.items(), strict=True):
            where = {"moment": moment, "network": key, "scale": name}
            rows = of(tables["histograms"], **where)
            for layer, shade in enumerate(SHADES, start=1):
                shares = of(rows, layer=layer).groupby("log10_from")["share"].mean()
                axes.stairs(shares, edges, color=mix(COLORS[key], shade), linewidth=2)
            note_overflow(axes, of(tables["activations"], **where))
            title = f"{moment}, {LABELS[key]}\n{name}: std {std:.2g}"
            axes.set(
                xlabel="activation, zeros left out", ylabel="share of all activations", title=title
            )
            axes.set(xscale="log", xlim=(1e-8, 1e4), xticks=(1e-6, 1e-3, 1, 1e3), ylim=(0, 0.2))
            axes.yaxis.set_major_formatter(PERCENT)
            axes.label_outer()
    lines = [
        Line2D([], [], color=mix("black", shade), label=f"layer {layer}")
        for layer, shade in enumerate(SHADES, start=1)
    ]
    figure.legend(handles=lines, loc="outside upper center", ncols=len(deep.HIDDEN))
    return figure


def mix(color: str, shade: float) -> tuple[float, float, float]:
    """Return the color mixed with white; a shade of 1 is the color itself."""
    red, green, blue = (1 - shade * (1 - value) for value in to_rgb(color))
    return red, green, blue


def note_overflow(axes: Axes, rows: pd.DataFrame) -> None:
    """Say why there is nothing to see where a network's numbers have overflowed."""
    if rows["spread"].isna().any():
        text = "without batch norm:\nnumbers overflowed"
        axes.text(0.5, 0.75, text, ha="center", va="center", transform=axes.transAxes)


def layers(tables: Tables, moment: str) -> Figure:
    """Spread and gradient of each layer before training, zeros and dead units after it."""
    figure, grid = sheet(2, 3, 14, 8)
    for row, (value, label) in zip(grid, BY_LAYER[moment].items(), strict=True):
        for axes, (name, std) in zip(row, activations.SCALES.items(), strict=True):
            rows = of(tables["activations"], scale=name, moment=moment)
            for key in PAIR:
                curve(axes, of(rows, network=key), "layer", value, key, marker=MARKERS[key])
            title = f"{name}: std {std:.2g}" if axes in grid[0] else ""
            axes.set(xlabel="layer", ylabel=f"{label}\n{moment}", title=title)
            if value in ("zeros", "dead"):
                axes.set_ylim(0, 1)
                axes.yaxis.set_major_formatter(PERCENT)
                note_overflow(axes, rows)
            else:
                axes.set(yscale="log", ylim=(1e-8, 1e4))
            axes.set_xticks(range(1, len(deep.HIDDEN) + 1))
            axes.label_outer()
    legend(figure, grid[0, 0])
    return figure
