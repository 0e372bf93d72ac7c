"""Sets the source document's training losses beside ours over many seeds: `python -m bench.seeds`.

A reproduction holds if each of the source's losses lies within three standard deviations of the
mean of ours. The exit status says whether all do.
"""

import argparse
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from tqdm import tqdm

from pipeline.artifacts import KEYS
from pipeline.data import load_mnist
from pipeline.params import TrainParams
from pipeline.train import initial_network, normalise, train_epoch

# The mean batch loss of epochs 1 to 10 that the source document prints for its one run.
SOURCE = {
    "simple_mlp": [
        1.0485, 0.3868, 0.3244, 0.2905, 0.2648, 0.2419, 0.2225, 0.2045, 0.1891, 0.1757,
    ],
    "batchnorm_mlp": [
        0.5523, 0.2110, 0.1486, 0.1186, 0.0981, 0.0824, 0.0717, 0.0633, 0.0562, 0.0504,
    ],
}  # fmt: skip


def train_losses(job: tuple[str, int]) -> list[float]:
    """Return the training loss of each epoch for a network's key and a seed."""
    key, seed = job
    torch.set_num_threads(1)
    params = TrainParams(epochs=10, batch_size=64, lr=0.01, seed=seed, device="cpu")
    mnist = load_mnist()
    x = normalise(mnist.train_images).flatten(1)
    labels = torch.from_numpy(mnist.train_labels)
    network, order = initial_network(key, seed), torch.Generator().manual_seed(seed)
    return [
        train_epoch(network, x, labels, params, order).double().mean().item()
        for _ in range(params.epochs)
    ]


def main() -> None:
    """Train every seed, then print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.seeds", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="how many seeds (default: 10)")
    jobs = [(key, seed) for key in KEYS for seed in range(parser.parse_args().seeds)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        done = list(tqdm(pool.map(train_losses, jobs), "trainings", len(jobs), disable=None))

    print("| epoch | " + " | ".join(f"{key}, source | ours | distance" for key in KEYS) + " |")
    print("| --- " * (1 + 3 * len(KEYS)) + "|")
    distances = []
    for epoch in range(1, 11):
        cells = [str(epoch)]
        for key in KEYS:
            source = SOURCE[key][epoch - 1]
            losses = [done[i][epoch - 1] for i, job in enumerate(jobs) if job[0] == key]
            mean, deviation = statistics.mean(losses), statistics.stdev(losses)
            distances.append(abs(source - mean) / deviation)
            ours = f"{mean:.4f} ± {deviation:.4f}"
            cells += [f"{source:.4f}", ours, f"{(source - mean) / deviation:+.1f} σ"]
        print("| " + " | ".join(cells) + " |")
    all_within = max(distances) <= 3
    print(f"\nall within three standard deviations: {'yes' if all_within else 'no'}")
    sys.exit(not all_within)


if __name__ == "__main__":
    main()
