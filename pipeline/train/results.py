"""Writes the tables and pictures of finished trainings to artifacts/train/."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import Epoch
from pipeline.data.dataset import CLASS_NAMES
from pipeline.train.finished import Answers


def write_predictions(answers: Mapping[str, Answers]) -> None:
    """Write one row per network and test image."""
    columns = ["label", "prediction"]
    tables = {key: pd.DataFrame(rows, columns=columns) for key, rows in answers.items()}
    table = pd.concat(tables, names=["network"]).reset_index(level="network")
    files.write_atomically(files.PREDICTIONS, table.to_csv(index=False).encode())


def write_figures(histories: Mapping[str, Sequence[Epoch]], answers: Mapping[str, Answers]) -> None:
    """Write the loss curves of all networks, and the confusion matrix of each."""
    files.write_png(files.LOSSES_FIGURE, draw_losses(histories))
    for key, rows in answers.items():
        counts = np.zeros((len(CLASS_NAMES),) * 2, int)
        np.add.at(counts, tuple(np.transpose(rows)), 1)
        figure = draw_confusion_matrix(NETWORKS[key].title, counts)
        files.write_png(files.confusion_path(key), figure)


def draw_losses(histories: Mapping[str, Sequence[Epoch]]) -> Figure:
    """Return a figure with one curve per network, the training loss in nats by epoch."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for key, history in histories.items():
        _, title, color, marker = NETWORKS[key]
        epochs = [row.epoch for row in history]
        losses = [row.train_loss for row in history]
        axes.plot(epochs, losses, label=title, color=color, marker=marker, lw=2)
    axes.set(title="Training loss", xlabel="epoch", ylabel="mean cross entropy (nats)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_confusion_matrix(title: str, counts: np.ndarray) -> Figure:
    """Return a figure of counts (classes, classes) int, row: label, column: prediction."""
    figure = Figure(figsize=(7, 6.5), layout="compressed")
    axes = figure.subplots()
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, share)
    axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(0.03, wrong.max()))
    for (row, column), count in np.ndenumerate(counts):
        weight = "bold" if row == column else "normal"
        axes.text(column, row, f"{count or ''}", ha="center", va="center", weight=weight)
    shares = zip(CLASS_NAMES, share.diagonal(), strict=True)
    rotation = 90 * (max(map(len, CLASS_NAMES)) > 3)
    axes.set_xticks(range(len(counts)), CLASS_NAMES, rotation=rotation, parse_math=False)
    titles = [f"{name}  ({part:.1%})" for name, part in shares]
    axes.set_yticks(range(len(counts)), titles, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="class (its accuracy)")
    axes.set_title(f"{title}: answers to {counts.sum():,} test images")
    return figure
