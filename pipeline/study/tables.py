"""The tables of measurements: artifacts/study/tables/*.csv."""

import pandas as pd

from pipeline.core import files

NAMES = ("speed", "rates", "scale", "activations", "histograms", "overfitting")

Tables = dict[str, pd.DataFrame]


def write_table(name: str, table: pd.DataFrame) -> None:
    """Write a table; `read_tables` restores its floats exactly."""
    content = table.to_csv(index=False, lineterminator="\n").encode()
    files.write_atomically(files.STUDY / "tables" / f"{name}.csv", content)


def read_tables() -> Tables:
    """Return every table of measurements.

    Raises:
        FileNotFoundError: the study has not run.
    """
    folder = files.STUDY / "tables"
    paths = {name: files.require(folder / f"{name}.csv", "study") for name in NAMES}
    return {name: pd.read_csv(path, float_precision="round_trip") for name, path in paths.items()}
