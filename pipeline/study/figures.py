"""The figures of the study, each from the tables alone."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.study import deep, overfitting
from pipeline.study.claims import THRESHOLDS, reached
from pipeline.study.experiments import Tables
from pipeline.study.layer_figures import histograms, layers
from pipeline.study.pair import COLORS, LABELS, MARKERS, PAIR
from pipeline.study.price_figure import price
from pipeline.study.speed import LRS
from pipeline.study.style import PERCENT, curve, legend, of, sheet


def speed(tables: Tables) -> Figure:
    """Loss and test accuracy by epoch, with the tutorial's recipe."""
    figure, ((left, right),) = sheet(1, 2, 13, 5.5)
    for key in PAIR:
        rows = of(tables["speed"], network=key)
        curve(left, rows, "epoch", "train_loss", key, marker=MARKERS[key])
        curve(right, rows, "epoch", "test_accuracy", key, marker=MARKERS[key])
    left.set(xlabel="epoch", ylabel="training loss (nats)")
    left.set_ylim(bottom=0)
    right.set(xlabel="epoch", ylabel="test accuracy")
    right.yaxis.set_major_formatter(PERCENT)
    right.set(ylim=(0.75, 1), yticks=(0.75, 0.8, 0.85, *THRESHOLDS, 1))
    for threshold in THRESHOLDS:
        right.axhline(threshold, color="black", linewidth=1, linestyle=":")
    legend(figure, left)
    return figure


def rates(tables: Tables) -> Figure:
    """Test accuracy, and the updates to three accuracies, by learning rate."""
    figure, grid = sheet(2, 2, 13, 9.5)
    first, *others = grid.flat
    table = tables["rates"]
    end = table["update"].max()
    for axes in grid.flat:
        axes.set(xscale="log", xlim=(0.8 * min(LRS), 1.25 * max(LRS)))
        axes.xaxis.set_major_formatter("{x:g}")
    for key in PAIR:
        rows = of(table, update=end, network=key)
        curve(first, rows, "lr", "test_accuracy", key, marker=MARKERS[key])
        for axes, threshold in zip(others, THRESHOLDS, strict=True):
            draw_reached(axes, of(reached(table, threshold), network=key), key)
    first.set(xlabel="learning rate", ylabel="test accuracy", title=f"after {end} updates")
    first.yaxis.set_major_formatter(PERCENT)
    for axes, threshold in zip(others, THRESHOLDS, strict=True):
        title = f"updates to {threshold:.0%} (hollow: not in every pair)"
        axes.set(xlabel="learning rate", ylabel="updates", title=title)
        axes.set_ylim(0, 1.15 * end)
        axes.axhline(end, color="black", linewidth=1, linestyle=":")
        axes.text(min(LRS), 1.02 * end, "end of the training", va="bottom")
    legend(figure, first)
    return figure


def draw_reached(axes: Axes, found: pd.DataFrame, key: str) -> None:
    """Draw the updates that were needed, hollow where a seed did not arrive in time."""
    curve(axes, found, "lr", "update", key)
    everywhere = found.groupby("lr")["reached"].transform("all")
    for rows, fill in ((found[everywhere], COLORS[key]), (found[~everywhere], "white")):
        means = rows.groupby("lr")["update"].mean()
        (line,) = axes.plot(means.index, means, MARKERS[key], color=COLORS[key], markersize=8)
        line.set_markerfacecolor(fill)


def scale(tables: Tables) -> Figure:
    """Sixteen panels: accuracy by epoch, one panel per initial scale."""
    figure, grid = sheet(4, 4, 14, 11)
    for axes, (value, rows) in zip(
        grid.flat, tables["scale"].groupby("scale", sort=False), strict=True
    ):
        for key in PAIR:
            curve(axes, of(rows, network=key), "epoch", "accuracy", key)
        axes.set_title(f"std {value:.4f}")
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.label_outer()
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy")
    legend(figure, grid[0, 0])
    return figure


def final_scale(tables: Tables) -> Figure:
    """The last accuracy by initial scale, with the scales that He and Xavier recommend."""
    figure, ((axes,),) = sheet(1, 1, 10, 5.5)
    table = tables["scale"]
    last = of(table, epoch=table["epoch"].max())
    for key in PAIR:
        curve(axes, of(last, network=key), "scale", "accuracy", key, marker=MARKERS[key])
    for name, value, side in ((" Xavier", deep.XAVIER, "left"), ("He ", deep.HE, "right")):
        axes.axvline(value, color="black", linewidth=1, linestyle=":")
        axes.text(value, 1.05, name, ha=side, va="bottom")
    axes.axhline(0.1, color="black", linewidth=1, linestyle=":")
    axes.text(1e-4, 0.05, "guessing", ha="right", va="center")
    axes.set_xscale("log")
    axes.invert_xaxis()  # in the order of the panels
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set(xlabel="standard deviation of the initial weights", ylabel="accuracy after training")
    legend(figure, axes)
    return figure


def overfitted(tables: Tables) -> Figure:
    """Accuracy on the 300 images and on the test images by epoch, of all four variants."""
    lr = max(overfitting.LRS)
    panels = {"train_accuracy": "300 training images", "test_accuracy": "10,000 test images"}
    figure, grid = sheet(2, 2, 13, 9)
    for column, (name, shape) in zip(grid.T, overfitting.SHAPES.items(), strict=True):
        rows = of(tables["overfitting"], shape=name, lr=lr)
        for axes, (value, images) in zip(column, panels.items(), strict=True):
            draw_variants(axes, rows, "epoch", value)
            title = f"{shape.title}, learning rate {lr:g}" if axes in grid[0] else ""
            axes.set(xlabel="epoch", ylabel=f"accuracy, {images}", title=title)
            axes.set_ylim(0.4, 1.02)
            axes.label_outer()
    legend(figure, grid[0, 0])
    return figure


def overfitted_by_rate(tables: Tables) -> Figure:
    """The gap between the accuracies, and the test accuracy, at the end by learning rate."""
    table = tables["overfitting"]
    last = of(table, epoch=table["epoch"].max())
    last = last.assign(gap=last["train_accuracy"] - last["test_accuracy"])
    panels = {"gap": "training minus test accuracy", "test_accuracy": "test accuracy"}
    figure, grid = sheet(2, 2, 13, 9)
    for left, right in grid:
        right.sharey(left)
    for column, (name, shape) in zip(grid.T, overfitting.SHAPES.items(), strict=True):
        for axes, (value, label) in zip(column, panels.items(), strict=True):
            draw_variants(axes, of(last, shape=name), "lr", value)
            axes.set(xlabel="learning rate", ylabel=label, xscale="log")
            axes.set_title(shape.title if axes in grid[0] else "")
            axes.set_xticks(overfitting.LRS, [f"{lr:g}" for lr in overfitting.LRS])
            axes.minorticks_off()
            axes.label_outer()
    legend(figure, grid[0, 0])
    return figure


def draw_variants(axes: Axes, table: pd.DataFrame, x: str, y: str) -> None:
    """Plot the pair of networks, solid without dropout and dashed with it."""
    for key in PAIR:
        for dropout, line in zip(overfitting.DROPOUTS, ("-", "--"), strict=True):
            rows = of(table, network=key, dropout=dropout)
            label = LABELS[key] + (", with dropout" if dropout else "")
            curve(axes, rows, x, y, key, linestyle=line, label=label, marker=MARKERS[key])
    axes.yaxis.set_major_formatter(PERCENT)


FIGURES = {
    "speed": speed,
    "rates": rates,
    "scale": scale,
    "final_scale": final_scale,
    "activations_before": lambda tables: histograms(tables, "before training"),
    "activations_after": lambda tables: histograms(tables, "after training"),
    "layers_before": lambda tables: layers(tables, "before training"),
    "layers_after": lambda tables: layers(tables, "after training"),
    "overfitting": overfitted,
    "overfitting_by_rate": overfitted_by_rate,
    "price": price,
}
