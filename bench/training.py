"""Times training beside its peers, in one run: `python -m bench.training`.

The source document's way (DataLoader, transforms, autograd) beside ours, a training step beside
its own matrix products, and `dvc repro certify` beside the source's training. Each figure is the
median of several rounds in which the contestants take turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST
from tqdm import tqdm

from models import NETWORKS
from pipeline.artifacts import KEYS, ROOT
from pipeline.data import DATA, load_mnist
from pipeline.params import TrainParams
from pipeline.train import initial_network, normalise, train_epoch

PARAMS = TrainParams(epochs=10, batch_size=64, lr=0.01, seed=0, device="cpu")  # the source's


def seconds(work: Callable[[], object]) -> float:
    """Return how long the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def source_loader() -> DataLoader:
    """Return batches as the source makes them: decoded, transformed and stacked one by one."""
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    images = MNIST(str(DATA), train=True, transform=steps)
    return DataLoader(images, batch_size=PARAMS.batch_size, shuffle=True)


def source_epoch(network: nn.Module, batches: DataLoader) -> None:
    """Train one epoch the source's way."""
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(network.parameters(), lr=PARAMS.lr)
    network.train()
    total = 0.0
    for images, labels in batches:
        optimiser.zero_grad()
        loss = criterion(network(images), labels)
        loss.backward()
        optimiser.step()
        total += loss.item()


def our_epochs(key: str, rounds: int) -> float:
    """Return the median seconds of one of our epochs, on one thread."""
    torch.set_num_threads(1)
    mnist = load_mnist()
    x = normalise(mnist.train_images).flatten(1)
    labels = torch.from_numpy(mnist.train_labels)
    network, order = initial_network(key, PARAMS.seed), torch.Generator()
    epochs = (
        seconds(lambda: train_epoch(network, x, labels, PARAMS, order)) for _ in range(rounds + 1)
    )
    return statistics.median(list(epochs)[1:])  # the first one warms up


def products_epoch() -> None:
    """Multiply the matrices of one epoch's steps: what no training step can do without."""
    x, weights = torch.randn(64, 784), [torch.randn(128, 784), torch.randn(64, 128)]
    last = torch.randn(10, 64)
    with torch.inference_mode():
        for _ in range(938):
            first = x @ weights[0].T
            second = first @ weights[1].T
            logits = second @ last.T
            last.addmm_(logits.T, second, alpha=-1e-12)
            gradient = logits @ last
            weights[1].addmm_(gradient.T, first, alpha=-1e-12)
            gradient = gradient @ weights[1]
            weights[0].addmm_(gradient.T, x, alpha=-1e-12)


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every contestant in every round."""
    batches = source_loader()
    networks = [network() for network in NETWORKS.values()]
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    cores = torch.get_num_threads()
    with ProcessPoolExecutor(len(KEYS), get_context("spawn")) as pool:
        for _ in tqdm(range(rounds), "rounds", disable=None):
            note("source", sum(seconds(partial(source_epoch, n, batches)) for n in networks))
            note("ours", max(pool.map(our_epochs, KEYS, [5, 5])))
            torch.set_num_threads(1)
            note("products", min(seconds(products_epoch) for _ in range(5)))
            for key in KEYS:
                note(key, our_epochs(key, 5))
            torch.set_num_threads(cores)
    return figures


def repro_seconds() -> float:
    """Return how long it takes from data to certificate when every stage is stale."""
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--quiet", "certify"]
    return seconds(lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr))


def main() -> None:
    """Measure, then print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take (default: 5)")
    figures = measure(parser.parse_args().rounds)
    median = {name: statistics.median(values) for name, values in figures.items()}

    def ratio(numerator: str, denominator: str) -> str:
        pairs = zip(figures[numerator], figures[denominator], strict=True)
        return f"{statistics.median(a / b for a, b in pairs):.2f}"

    whole_source = PARAMS.epochs * median["source"]
    repro = repro_seconds()
    print(f"\n{os.cpu_count()} cores, PyTorch {torch.__version__}, medians in seconds\n")
    print("| what | seconds | ratio |")
    print("| --- | --- | --- |")
    print(f"| one epoch of both networks, the source's way | {median['source']:.3f} | |")
    faster = ratio("source", "ours")
    print(f"| one epoch of both networks, ours | {median['ours']:.3f} | {faster} times faster |")
    print(f"| one epoch's matrix products, one thread | {median['products']:.3f} | |")
    for key in KEYS:
        print(f"| {key}'s epoch, one thread | {median[key]:.3f} | "
              f"{ratio(key, 'products')} times its products |")  # fmt: skip
    print(f"| {PARAMS.epochs} epochs of both networks, the source's way | {whole_source:.1f} | |")
    print(f"| `dvc repro --force certify`, from data to certificate | {repro:.1f} | "
          f"{whole_source / repro:.2f} times faster |")  # fmt: skip


if __name__ == "__main__":
    main()
