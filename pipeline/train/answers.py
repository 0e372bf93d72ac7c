"""Sums up what a network answers to the test images: writes classes.csv and confusion_matrix.png
beside predictions.csv in artifacts/<key>/answers/."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from models import NETWORKS
from pipeline.core import files
from pipeline.core.png import to_png
from pipeline.data.dataset import CLASSES


def sum_up(key: str) -> None:
    """Write the accuracy of each class, and the confusion matrix."""
    folder = files.answers_path(key)
    answers = pd.read_csv(folder / "predictions.csv")
    correct = (answers.label == answers.prediction).groupby(answers.label)
    classes = pd.DataFrame({"images": correct.size(), "accuracy": correct.mean()})
    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (answers.label, answers.prediction), 1)
    files.write_atomically(folder / "classes.csv", classes.to_csv().encode())
    figure = draw_confusion_matrix(NETWORKS[key].title, counts)
    files.write_atomically(folder / "confusion_matrix.png", figure)


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
