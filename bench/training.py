"""Times training against the tutorial's way: `python -m bench.training`.

The tutorial trains with a `DataLoader` that transforms image by image, autograd and `torch.optim`,
one network after the other; the pipeline trains all at the same time, each on one thread. The
contestants take turns; each figure is the median of all rounds, each ratio the median of the ratios
within a round.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST
from tqdm import tqdm

from models import NETWORKS
from pipeline.data.dataset import DATA
from pipeline.data.load import load_dataset
from pipeline.data.tensors import to_tensors
from pipeline.train.loop import initial_network, select, shuffle
from pipeline.train.step import Step

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
    step, order = Step(initial_network(key, seed=0)), torch.Generator()

    def epoch() -> None:
        for batch in shuffle(len(x), BATCH_SIZE, order, cpu):
            step(*select(batch, x, labels), LR)

    epoch()  # to warm up
    return statistics.median(seconds(epoch) for _ in range(repeats))


def tutorial_seconds(batches: DataLoader[Sample]) -> float:
    """Return the seconds of one epoch of every network, the tutorial's way."""
    networks = [network.build() for network in NETWORKS.values()]
    return sum(seconds(partial(tutorial_epoch, network, batches)) for network in networks)


def main() -> None:
    """Measure, then print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take (default: 5)")
    rounds, batches = parser.parse_args().rounds, tutorial_loader()
    with ProcessPoolExecutor(len(NETWORKS), get_context("spawn")) as pool:
        times = [
            (tutorial_seconds(batches), max(pool.map(our_epoch, NETWORKS)))
            for _ in tqdm(range(rounds), "rounds", disable=None)
        ]
    tutorial, ours = (statistics.median(column) for column in zip(*times, strict=True))
    faster = statistics.median(usual / mine for usual, mine in times)
    print(f"\n{os.cpu_count()} cores, PyTorch {torch.__version__}\n")
    print("| what | seconds | ratio |")
    print("| --- | --- | --- |")
    print(f"| one epoch of every network, the tutorial's way | {tutorial:.3f} | |")
    print(f"| one epoch of every network, ours | {ours:.3f} | {faster:.2f} times faster |")


if __name__ == "__main__":
    main()
