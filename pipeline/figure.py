"""Draws the pictures: artifacts/losses.png and artifacts/certificate.png."""

import io
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.history import Epoch

# Label, colour and marker of each network. Source of the colours: Okabe and Ito, "Color
# Universal Design", 2008, https://jfly.uni-koeln.de/color (distinct for the colour-blind).
STYLES = {
    "simple_mlp": ("SimpleMLP", "#D55E00", "s"),
    "batchnorm_mlp": ("BatchNormMLP", "#0072B2", "o"),
}


def draw_losses(histories: dict[str, list[Epoch]]) -> bytes:
    """Return a PNG with one curve a network, the training loss in nats by epoch."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for key, history in histories.items():
        label, colour, marker = STYLES[key]
        epochs = [row.epoch for row in history]
        losses = [row.train_loss for row in history]
        axes.plot(epochs, losses, label=label, color=colour, marker=marker, linewidth=2)
    axes.set_title("Training loss with and without batch normalisation")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean cross entropy (nats)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return to_png(figure)


# Colour and marker of each kind of images, the colours as above.
KINDS = {
    "test": ("#0072B2", "o"),
    "all 0, all 255": ("#000000", "s"),
    "single pixels": ("#E69F00", "D"),
    "noise": ("#009E73", "^"),
    "extremes": ("#D55E00", "v"),
}


def draw_certificate(rows: list[dict[str, Any]], limit: float) -> bytes:
    """Return a PNG with the differences of each leg from PyTorch and from float64, log scale.

    rows: the certificate's legs; a difference that is 0 or no number has no mark.
    """
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    panels = figure.subplots(ncols=2, sharey=True)
    legs = list(dict.fromkeys(row["leg"] for row in rows))
    titles = {
        "max_abs_difference": "from PyTorch in float32",
        "float64_error": "from PyTorch in float64, the truth",
    }
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for kind, (colour, marker) in KINDS.items():
            marks = [(row[column], legs.index(row["leg"])) for row in rows
                     if row["images"] == kind and row[column]]  # fmt: skip
            x, y = zip(*marks, strict=True) if marks else ((), ())
            axes.plot(x, y, marker, color=colour, label=kind, markersize=5)
        axes.set_xscale("log")
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("largest difference of a logit")
        axes.grid(alpha=0.3)
    panels[0].axvline(limit, color="grey", linestyle="--", label="limit on test images")
    panels[0].set_yticks(range(len(legs)), legs)
    panels[0].invert_yaxis()
    figure.suptitle("How far the answers lie apart, by the way in which the network is run")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return to_png(figure)


def to_png(figure: Figure) -> bytes:
    """Return the figure as a PNG file."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()
