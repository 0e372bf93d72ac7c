"""The experiments by name."""

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
