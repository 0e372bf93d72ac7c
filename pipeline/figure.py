"""Draws the training loss of both networks by epoch: artifacts/losses.png."""

import io

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
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()
