"""The history of one training: artifacts/<key>/history.csv, one row per epoch."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.core import files


class Epoch(NamedTuple):
    """One row. Losses are mean cross entropies in nats, accuracies fractions from 0 to 1.

    `train_loss` is the mean of the batch losses, taken while the weights change; `test_loss` and
    `test_accuracy` are those of the weights after the epoch; `seconds` is wall time.
    """

    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float
    seconds: float


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


def metric_points(history: list[Epoch], started_ms: int) -> Iterator[tuple[str, float, int, int]]:
    """Yield name, value, time in milliseconds since 1970, and epoch of every figure."""
    end_ms = float(started_ms)
    for row in history:
        end_ms += 1000 * row.seconds
        for name in Epoch._fields[1:]:
            yield name, getattr(row, name), round(end_ms), row.epoch
