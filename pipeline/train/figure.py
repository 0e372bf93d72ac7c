"""Draws artifacts/train/losses.png: the training loss of every network."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models import NETWORKS
from pipeline.core.history import Epoch
from pipeline.core.png import to_png


def draw_losses(histories: dict[str, list[Epoch]]) -> bytes:
    """Return a PNG with one curve per network, the training loss in nats by epoch."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for key, history in histories.items():
        network = NETWORKS[key]
        epochs = [row.epoch for row in history]
        losses = [row.train_loss for row in history]
        axes.plot(
            epochs, losses, label=network.title, color=network.color, marker=network.marker, lw=2
        )
    axes.set_title("Training loss")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean cross entropy (nats)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return to_png(figure)
