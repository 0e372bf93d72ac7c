"""Compares the tutorial's training losses with ours over many seeds: `python -m bench.seeds`.

A reproduction holds if each of the tutorial's losses lies within three standard deviations of the
mean of ours. The exit status is 1 if one does not.
"""

import argparse
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from tqdm import tqdm

from pipeline.core.params import Recipe
from pipeline.data.load import load_dataset
from pipeline.train.loop import initial_network, train

# The mean batch loss of epochs 1 to 10 that the tutorial prints for its one run.
TUTORIAL = {
    "simple_mlp": [
        1.0485, 0.3868, 0.3244, 0.2905, 0.2648, 0.2419, 0.2225, 0.2045, 0.1891, 0.1757,
    ],
    "batchnorm_mlp": [
        0.5523, 0.2110, 0.1486, 0.1186, 0.0981, 0.0824, 0.0717, 0.0633, 0.0562, 0.0504,
    ],
}  # fmt: skip


def train_losses(key: str, seed: int) -> list[float]:
    """Return the training loss of each epoch."""
    torch.set_num_threads(1)
    params = Recipe(epochs=10, batch_size=64, lr=0.01, seed=seed, device="cpu")
    history = train(initial_network(key, seed), load_dataset(), params)
    return [epoch.train_loss for epoch in history]


def main() -> None:
    """Train every seed, then print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.seeds", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="how many seeds (default: 10)")
    jobs = [(key, seed) for key in TUTORIAL for seed in range(parser.parse_args().seeds)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        done = pool.map(train_losses, *zip(*jobs, strict=True))
        losses = dict(zip(jobs, tqdm(done, "trainings", len(jobs), disable=None), strict=True))

    names = (f"{key}, tutorial | ours | distance" for key in TUTORIAL)
    print(f"| epoch | {' | '.join(names)} |")
    print("| --- " * (1 + 3 * len(TUTORIAL)) + "|")
    distances = []
    for epoch in range(10):
        cells = [str(epoch + 1)]
        for key, printed in TUTORIAL.items():
            ours = [history[epoch] for job, history in losses.items() if job[0] == key]
            mean, deviation = statistics.mean(ours), statistics.stdev(ours)
            distances.append((printed[epoch] - mean) / deviation)
            cells += [f"{printed[epoch]:.4f}", f"{mean:.4f} ± {deviation:.4f}"]
            cells.append(f"{distances[-1]:+.1f} σ")
        print("| " + " | ".join(cells) + " |")
    all_within = all(abs(distance) <= 3 for distance in distances)
    print(f"\nall within three standard deviations: {'yes' if all_within else 'no'}")
    sys.exit(not all_within)


if __name__ == "__main__":
    main()
