"""The epochs of one training: artifacts/<key>/history.csv and what is read from it."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.artifacts import write_whole


class Epoch(NamedTuple):
    """One row: losses are mean cross entropies in nats, accuracy is a share from 0 to 1.

    `train_loss` is the mean of the batch losses while training, as the weights change;
    `test_loss` and `test_accuracy` are of the weights after the epoch; `seconds` is wall time.
    """

    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float
    seconds: float


def write_history(path: Path, history: list[Epoch]) -> None:
    """Write one row an epoch below a header with the column names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Epoch._fields)
    writer.writerows(history)
    write_whole(path, text.getvalue().encode())


def read_history(path: Path) -> list[Epoch]:
    """Read what `write_history` wrote; floats come back bit for bit."""
    with path.open(newline="") as file:
        return [
            Epoch(int(row.pop("epoch")), **{name: float(value) for name, value in row.items()})
            for row in csv.DictReader(file)
        ]


def points(history: list[Epoch], start_s: float) -> Iterator[tuple[str, float, int, int]]:
    """Yield name, value, time in milliseconds and epoch of every figure.

    start_s: when the first epoch began, in seconds since 1970.
    """
    end_s = start_s
    for row in history:
        end_s += row.seconds
        for name in ("train_loss", "test_loss", "test_accuracy", "seconds"):
            yield name, getattr(row, name), round(end_s * 1000), row.epoch
