"""Times training against the tutorial's way: `python -m bench.training`.

The tutorial trains with a `DataLoader` that transforms image by image, autograd and `torch.optim`,
one network after the other; the pipeline trains all at the same time, each on one thread. Last,
`dvc repro --force certify` is timed against the tutorial's training. The contestants take turns;
each figure is the median of all rounds, each ratio the median of the ratios within a round.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST
from tqdm import tqdm

from models import NETWORKS
from pipeline.core.files import ROOT
from pipeline.data.dataset import DATA
from pipeline.data.load import load_dataset
from pipeline.data.tensors import to_tensors
from pipeline.train.loop import initial_network, select, shuffle
from pipeline.train.step import TracedStep

EPOCHS, BATCH_SIZE, LR = 10, 64, 0.01  # the tutorial's
Sample = tuple[Tensor, int]  # an image and its label


def seconds(work: Callable[[], object]) -> float:
    """Return how long the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def tutorial_loader() -> DataLoader[Sample]:
    """Return batches as the tutorial makes them: decoded, transformed and stacked one by one."""
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    images = MNIST(str(DATA), train=True, transform=steps)
    return DataLoader(images, batch_size=BATCH_SIZE, shuffle=True)


def tutorial_epoch(network: nn.Module, batches: DataLoader[Sample]) -> None:
    """Train one epoch the tutorial's way."""
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    network.train()
    total = 0.0
    for images, labels in batches:
        optimizer.zero_grad()
        loss = criterion(network(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item()


def our_epoch(key: str, repeats: int = 5) -> float:
    """Return the median seconds of one epoch of the pipeline's, on one thread."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    x, labels, *_ = to_tensors(load_dataset(), cpu)
    step, order = TracedStep(initial_network(key, seed=0)), torch.Generator()

    def epoch() -> None:
        for batch in shuffle(len(x), BATCH_SIZE, order, cpu):
            step(*select(batch, x, labels), LR)

    epoch()  # to trace and warm up
    return statistics.median(seconds(epoch) for _ in range(repeats))


def time_epochs(batches: DataLoader[Sample], pool: Executor) -> tuple[float, float]:
    """Return the seconds of one epoch of every network, the tutorial's way and ours."""
    networks = [network.build() for network in NETWORKS.values()]
    tutorial = sum(seconds(partial(tutorial_epoch, network, batches)) for network in networks)
    return tutorial, max(pool.map(our_epoch, NETWORKS))


def repro_seconds() -> float:
    """Return how long it takes from data to certificate when every stage is stale."""
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--quiet", "certify"]
    return seconds(lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr))


def main() -> None:
    """Measure, then print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take (default: 5)")
    rounds, batches = parser.parse_args().rounds, tutorial_loader()
    with ProcessPoolExecutor(len(NETWORKS), get_context("spawn")) as pool:
        times = [time_epochs(batches, pool) for _ in tqdm(range(rounds), "rounds", disable=None)]
    tutorial, ours = (statistics.median(column) for column in zip(*times, strict=True))
    faster = statistics.median(usual / mine for usual, mine in times)
    training, repro = EPOCHS * tutorial, repro_seconds()
    print(f"\n{os.cpu_count()} cores, PyTorch {torch.__version__}\n")
    print("| what | seconds | ratio |")
    print("| --- | --- | --- |")
    print(f"| one epoch of every network, the tutorial's way | {tutorial:.3f} | |")
    print(f"| one epoch of every network, ours | {ours:.3f} | {faster:.2f} times faster |")
    print(f"| {EPOCHS} epochs of every network, the tutorial's way | {training:.1f} | |")
    ratio = f"{training / repro:.2f} times faster"
    print(f"| `dvc repro --force certify`, from data to certificate | {repro:.1f} | {ratio} |")


if __name__ == "__main__":
    main()
