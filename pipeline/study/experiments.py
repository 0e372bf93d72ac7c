"""The experiments by name, and how their tables are put together."""

import pandas as pd

from pipeline.study import activations, overfitting, scale, speed

# Each takes a seed, params, the data set and a device, and returns tables by name. The longest come
# first, so that no worker is left with one at the end.
EXPERIMENTS = {
    "overfitting": overfitting.measure,
    "rates": speed.measure_rates,
    "speed": speed.measure_speed,
    "scale": scale.measure,
    "activations": activations.measure,
}


def gather(parts: list[dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """Return the tables of all parts, those of the same name concatenated."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: pd.concat([part[name] for part in parts if name in part]) for name in names}
