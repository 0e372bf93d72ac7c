"""Times one training step of every network on one thread: `python -m bench.step`.

The pipeline's step is compared with that of PyTorch's fused SGD, and with its matrix products
alone, which no implementation can do without. The contestants take turns; each figure is the median
of all rounds, each ratio the median of the ratios within a round.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.benchmark import Timer
from tqdm import tqdm

from models import NETWORKS
from pipeline.train.loop import initial_network
from pipeline.train.step import Step

BATCH_SIZE, LR = 64, 0.01  # the tutorial's

Take = Callable[[], object]


def product_step(network: nn.Module) -> Take:
    """Return a function that multiplies the matrices of one step, those of its linear layers."""
    pairs: list[tuple[Tensor, Tensor]] = []
    for linear in (module for module in network.modules() if isinstance(module, nn.Linear)):
        weight = linear.weight.detach()
        x, gradient = torch.randn(BATCH_SIZE, weight.shape[1]), torch.randn(BATCH_SIZE, len(weight))
        if pairs:  # the images need no gradient
            pairs.append((gradient, weight))
        pairs += [(x, weight.T), (gradient.T, x)]

    @torch.inference_mode()
    def step() -> None:
        for a, b in pairs:
            torch.mm(a, b)

    return step


def our_step(network: nn.Module, x: Tensor, labels: Tensor) -> Take:
    """Return a function that takes one step as the pipeline does."""
    step = Step(network)
    return lambda: step(x, labels, LR)


def fused_sgd_step(network: nn.Module, x: Tensor, labels: Tensor) -> Take:
    """Return a function that takes one step with autograd and fused SGD."""
    optimizer = torch.optim.SGD(network.train().parameters(), LR, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(network(x), labels).backward()
        optimizer.step()

    return step


def time_steps(key: str, rounds: int) -> list[list[float]]:
    """Return the microseconds of a step, [products, ours, fused SGD] in each round."""
    x, labels = torch.randn(BATCH_SIZE, 28, 28), torch.randint(10, (BATCH_SIZE,))
    steps = [
        product_step(initial_network(key, 0)),
        our_step(initial_network(key, 0), x, labels),
        fused_sgd_step(initial_network(key, 0), x, labels),
    ]
    timers = [Timer("step()", globals={"step": step}, num_threads=1) for step in steps]
    for timer in timers:
        timer.timeit(100)  # to warm up
    return [
        [1e6 * timer.timeit(500).median for timer in timers]
        for _ in tqdm(range(rounds), key, disable=None)
    ]


def main() -> None:
    """Measure every network, then print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.step", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds to take (default: 15)")
    rounds = parser.parse_args().rounds
    table = {key: time_steps(key, rounds) for key in NETWORKS}
    print(f"\nPyTorch {torch.__version__}, batches of {BATCH_SIZE}, microseconds per step\n")
    print("| network | products | ours | fused SGD | ours / products | fused SGD / ours |")
    print("| --- | --- | --- | --- | --- | --- |")
    for key, times in table.items():
        cells = [f"{statistics.median(column):.0f}" for column in zip(*times, strict=True)]
        cells.append(f"{statistics.median(ours / least for least, ours, _ in times):.2f}")
        cells.append(f"{statistics.median(fused / ours for _, ours, fused in times):.2f}")
        print(f"| {key} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
