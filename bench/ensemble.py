"""Times the study's ensembles beside the loop that trains network after network:
`python -m bench.ensemble`.

The loop is PyTorch as one writes it (autograd, fused SGD), and beside it `pipeline.step`. Every
core is busy with a process of one thread; each figure is the median of several rounds in which the
contestants take turns.
"""

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline import step
from pipeline.artifacts import KEYS
from pipeline.study import deep, ensemble, speed

SHAPES = {
    "five hidden layers, 16 initial scales": (deep.SIZES, deep.BATCH_SIZE, 16),
    "the source's network, 7 learning rates": (speed.SIZES, speed.BATCH_SIZE, 7),
}
WAYS = ("autograd", "step", "ensemble")
UPDATES = 50


def network(sizes: tuple[int, ...], normed: bool) -> nn.Sequential:
    """Return a perceptron with these numbers of units."""
    modules: list[nn.Module] = []
    for inputs, units in pairwise(sizes):
        modules += [nn.Linear(inputs, units)]
        modules += [nn.BatchNorm1d(units)] if normed else []
        modules += [nn.ReLU()]
    return nn.Sequential(*modules[: -2 - normed], modules[-2 - normed])


def train_by_autograd(networks: list[nn.Sequential], batches: list[tuple[Tensor, Tensor]]) -> None:
    """Train one network after the other as one writes it."""
    for member in networks:
        optimiser = torch.optim.SGD(member.parameters(), lr=0.01, fused=True)
        for x, labels in batches:
            optimiser.zero_grad()
            nn.functional.cross_entropy(member(x), labels).backward()
            optimiser.step()


def train_by_step(networks: list[nn.Sequential], batches: list[tuple[Tensor, Tensor]]) -> None:
    """Train one network after the other as the train stage does."""
    for member in networks:
        layers = step.layers(member)
        for x, labels in batches:
            step.sgd_step(layers, x, labels, 0.01)


def train_ensemble(networks: list[nn.Sequential], batches: list[tuple[Tensor, Tensor]]) -> None:
    """Train all networks at once."""
    cpu, members = torch.device("cpu"), len(networks)
    layers = []
    for pairs in zip(*(step.layers(member) for member in networks), strict=True):
        weight = torch.stack([linear.weight.detach() for linear, _ in pairs])
        bias = torch.stack([linear.bias.detach()[:, None] for linear, _ in pairs])
        norm = ensemble.batch_norm(members, bias.shape[1], cpu) if pairs[0][1] else None
        layers.append(ensemble.Layer(weight, bias, norm))
    lr = torch.full((members, 1, 1), 0.01)
    for x, labels in batches:
        ensemble.sgd_step(layers, x.T, labels, lr)


def seconds(way: str, shape: str, key: str) -> float:
    """Return the seconds of one update of one member, on one thread."""
    torch.set_num_threads(1)
    sizes, batch_size, members = SHAPES[shape]
    train = {"autograd": train_by_autograd, "step": train_by_step, "ensemble": train_ensemble}[way]
    networks = [network(sizes, key == "batchnorm_mlp") for _ in range(members)]
    images, labels = torch.randn(1000, 784), torch.randint(10, (1000,))
    drawn = torch.randint(1000, (UPDATES, batch_size))
    batches = [(images[batch], labels[batch]) for batch in drawn]
    train(networks, batches[:3])  # warms up
    start = time.perf_counter()
    train(networks, batches)
    return (time.perf_counter() - start) / UPDATES / members


def main() -> None:
    """Measure, then print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.ensemble", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take (default: 5)")
    rounds = parser.parse_args().rounds
    cores = os.cpu_count() or 1
    cases = [(shape, key) for shape in SHAPES for key in KEYS]
    found: dict[tuple[str, str, str], list[float]] = {}
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        for _ in tqdm(range(rounds), "rounds", disable=None):
            for case in cases:
                for way in WAYS:
                    done = pool.map(seconds, [way] * cores, *([part] * cores for part in case))
                    found.setdefault((way, *case), []).append(statistics.mean(done))

    print(
        f"\n{cores} cores, PyTorch {torch.__version__}, microseconds for an update of a network\n"
    )
    print("| networks | autograd | pipeline.step | ensemble | against autograd | against step |")
    print("| --- | --- | --- | --- | --- | --- |")
    for shape, key in cases:
        loop, ours, together = (found[way, shape, key] for way in WAYS)
        cells = [f"{1e6 * statistics.median(values):.0f}" for values in (loop, ours, together)]
        for slow in (loop, ours):
            ratios = (a / b for a, b in zip(slow, together, strict=True))
            cells.append(f"{statistics.median(ratios):.2f} times faster")
        print(f"| {shape}, {key} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
