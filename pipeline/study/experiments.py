"""The experiments by name, and how what they measure is put together."""

import pandas as pd

from pipeline.study import activations, overfitting, scale, speed

# Each takes a seed, params, MNIST and a device, and returns tables by name. The longest come first,
# so that no worker is left alone with one in the end.
EXPERIMENTS = {
    "speed": speed.measure_speed,
    "rates": speed.measure_rates,
    "scale": scale.measure,
    "overfitting": overfitting.measure,
    "activations": activations.measure,
}


def gather(parts: list[dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """Return the tables of all parts, those of the same name one below the other."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: pd.concat([part[name] for part in parts if name in part]) for name in names}
