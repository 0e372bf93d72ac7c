"""The experiments by name, and the tables of their measurements: artifacts/study/tables/*.csv."""

import pandas as pd

from pipeline.core import files
from pipeline.study import activations, centering, overfitting, scale, speed
from pipeline.study.pair import Tables as Tables  # for others to import from here

# Each takes a seed, params, the data set and a device, and returns tables by name. The longest come
# first, so that no worker is left with one at the end.
EXPERIMENTS = {
    "overfitting": overfitting.measure,
    "rates": speed.measure_rates,
    "speed": speed.measure_speed,
    "centering": centering.measure,
    "scale": scale.measure,
    "activations": activations.measure,
}


def gather(parts: list[Tables]) -> Tables:
    """Return the tables of all parts, those of the same name concatenated."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: pd.concat([part[name] for part in parts if name in part]) for name in names}


def write_tables(tables: Tables) -> None:
    """Write each table, with every digit of its floats."""
    for name, table in tables.items():
        content = table.to_csv(index=False, lineterminator="\n").encode()
        files.write_atomically(files.STUDY / "tables" / f"{name}.csv", content)
