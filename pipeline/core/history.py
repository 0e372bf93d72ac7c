"""The tables of one training: artifacts/<key>/history.csv has one row per epoch, and
artifacts/<key>/answers/predictions.csv one row per test image."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.core import files


class Epoch(NamedTuple):
    """One row. Losses are mean cross entropies in nats, accuracies fractions from 0 to 1.

    `train_loss` is the mean of the batch losses, taken while the weights change; `test_loss` and
    `test_accuracy` are those of the weights after the epoch.
    """

    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float


def write_history(path: Path, history: list[Epoch]) -> None:
    """Write a header and one row per epoch."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Epoch._fields)
    writer.writerows(history)
    files.write_atomically(path, text.getvalue().encode())


def read_history(path: Path) -> list[Epoch]:
    """Return what `write_history` wrote; floats are restored exactly.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        with path.open(newline="") as file:
            return [
                Epoch(int(row.pop("epoch")), **{name: float(value) for name, value in row.items()})
                for row in csv.DictReader(file)
            ]
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(f"{path} is unreadable: run `dvc repro --force train`") from error


def write_predictions(key: str, labels: np.ndarray, predictions: np.ndarray) -> None:
    """Write the true and the predicted class of each test image, both (N,) int64."""
    rows = [f"{row[0]},{row[1]}\n" for row in zip(labels, predictions, strict=True)]
    text = "label,prediction\n" + "".join(rows)
    files.write_atomically(files.answers_path(key) / "predictions.csv", text.encode())


def metric_points(
    history: Sequence[Epoch], times_ms: Sequence[int]
) -> Iterator[tuple[str, float, int, int]]:
    """Yield name, value, time in milliseconds since 1970, and epoch of every figure.

    times_ms: when each epoch ended.
    """
    for row, time_ms in zip(history, times_ms, strict=True):
        for name in Epoch._fields[1:]:
            yield name, getattr(row, name), time_ms, row.epoch
