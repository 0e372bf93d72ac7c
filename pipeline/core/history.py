"""The metrics of each epoch, and their table, artifacts/train/history.csv: one row per network and
epoch."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.core import files


class Epoch(NamedTuple):
    """One epoch. Losses are mean cross entropies in nats, accuracies fractions from 0 to 1.

    `train_loss` is the mean of the batch losses, taken while the weights change; `test_loss` and
    `test_accuracy` are those of the weights after the epoch.
    """

    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float


def write_history(histories: Mapping[str, Sequence[Epoch]]) -> None:
    """Write a header, and one row per network and epoch."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", *Epoch._fields])
    writer.writerows([key, *row] for key, history in histories.items() for row in history)
    files.write_atomically(files.HISTORY, text.getvalue().encode())


def read_history() -> dict[str, list[Epoch]]:
    """Return the epochs of each network; floats are restored exactly.

    Raises:
        FileNotFoundError: `train` has not run.
        ValueError: the file holds something else.
    """
    histories: dict[str, list[Epoch]] = {}
    with files.require(files.HISTORY, "train").open(newline="") as file:
        try:
            for row in csv.DictReader(file):
                history = histories.setdefault(row.pop("network"), [])
                epoch = int(row.pop("epoch"))
                history.append(Epoch(epoch, **{name: float(row[name]) for name in row}))
        except (ValueError, TypeError, LookupError) as error:
            raise files.unreadable(files.HISTORY, "train") from error
    return histories
