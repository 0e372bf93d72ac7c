"""Writes what the networks answer to the test images: artifacts/train/predictions.csv, one row per
network and image, and the picture of each network's confusion matrix."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from models import NETWORKS
from pipeline.core import files
from pipeline.core.png import to_png
from pipeline.data.dataset import CLASSES

Answers = list[tuple[int, int]]  # the class of each test image, and the predicted one


def write_answers(answers: Mapping[str, Answers]) -> None:
    """Write the table of all networks, and the confusion matrix of each."""
    tables = {
        key: pd.DataFrame(rows, columns=["label", "prediction"]) for key, rows in answers.items()
    }
    table = pd.concat(tables, names=["network"]).reset_index(level="network")
    files.write_atomically(files.PREDICTIONS, table.to_csv(index=False).encode())
    for key, rows in answers.items():
        counts = np.zeros((CLASSES, CLASSES), int)
        np.add.at(counts, tuple(np.transpose(rows)), 1)
        figure = draw_confusion_matrix(NETWORKS[key].title, counts)
        files.write_atomically(files.confusion_path(key), figure)


def draw_confusion_matrix(title: str, counts: np.ndarray) -> bytes:
    """Return a PNG of counts (classes, classes) int, row: label, column: prediction."""
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    axes = figure.subplots()
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, share)
    axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(0.03, wrong.max()))
    for (row, column), count in np.ndenumerate(counts):
        weight = "bold" if row == column else "normal"
        axes.text(column, row, f"{count or ''}", ha="center", va="center", weight=weight)
    axes.set_xticks(range(len(counts)))
    axes.set_yticks(
        range(len(counts)), [f"{i}  ({part:.1%})" for i, part in enumerate(share.diagonal())]
    )
    axes.set_xlabel("predicted class")
    axes.set_ylabel("class (its accuracy)")
    axes.set_title(f"{title}: answers to {counts.sum():,} test images")
    return to_png(figure)
