"""The metrics of each epoch, and their tables in artifacts/train/: history.csv, and validation.csv
of the validation images if there are any. A row is a network's epoch."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.core import files


class Epoch(NamedTuple):
    """One epoch. Losses are mean cross entropies in nats, accuracies fractions from 0 to 1.

    `train_loss` is the mean of the batch losses, taken while the weights change; the others are
    those of the weights after the epoch. Those of validation images are None if there are none.
    """

    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


def write_history(histories: Mapping[str, Sequence[Epoch]]) -> None:
    """Write a table with a row per network and epoch, and one with those of validation images."""
    rows = [(key, row) for key, history in histories.items() for row in history]
    validated = [(key, row) for key, row in rows if row.validation_loss is not None]
    _write(files.HISTORY, Epoch._fields[:-2], rows)
    _write(files.VALIDATION, ("epoch", *Epoch._fields[-2:]), validated)


def _write(path: Path, columns: Sequence[str], rows: Iterable[tuple[str, Epoch]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", *columns])
    writer.writerows([key, *(getattr(row, name) for name in columns)] for key, row in rows)
    files.write_atomically(path, text.getvalue().encode())


def read_history() -> dict[str, list[Epoch]]:
    """Return the epochs of each network; floats are restored exactly.

    Raises:
        FileNotFoundError: `train` has not run.
        ValueError: a file holds something else.
    """
    histories: dict[str, list[Epoch]] = {}
    rows: dict[tuple[str, str], dict[str, float]] = {}
    try:
        for path in (files.HISTORY, files.VALIDATION):
            table = files.require(path, "train").read_text()
            for row in csv.DictReader(table.splitlines()):
                found = rows.setdefault((row.pop("network"), row.pop("epoch")), {})
                found |= {name: float(row[name]) for name in row}
        for (key, epoch), values in rows.items():
            histories.setdefault(key, []).append(Epoch(int(epoch), **values))
    except (ValueError, TypeError, LookupError) as error:
        raise files.unreadable(files.HISTORY, "train") from error
    return histories
