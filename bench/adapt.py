"""Measures whether the gate without labels chooses the better network: `python -m bench.adapt`.

Each decision draws rows, with replacement, from half of the test images, which are changed, and of
which some classes may be more frequent. Accuracies are those on the other half, changed alike. The
exit status is 1 if a demand is not met.
"""

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.adapt.re_estimate import re_estimate_for_mix
from pipeline.core.params import load_params
from pipeline.data.corruptions import CORRUPTIONS, to_pixels
from pipeline.data.load import Dataset, load_dataset
from pipeline.data.tensors import logits_of, scale_pixels
from pipeline.export.build import HELD_OUT, UNSEEN
from pipeline.promote.gate import RE_ESTIMATED, TRAINED, choose
from pipeline.train.loop import initial_network, train

# A promotion that loses more than LOSS may happen in MAX_LOSSES of the decisions, and of those on
# REPAIRS in which re-estimation gains more than GAIN, MIN_REPAIRS must promote.
LOSS, MAX_LOSSES = 0.01, 0.01
GAIN, MIN_REPAIRS = 0.02, 0.95
KINDS = ("brightness", "contrast", "fog", "noise", "blur")  # that re-estimation repairs
SEVENS = (4, 10, 25)  # times as many
REPAIRS = {*KINDS, *(f"{kind}, sevens × {n}" for kind in KINDS for n in SEVENS[:2])}
OUTCOMES = f"gained > {LOSS:.0%}", f"lost > {LOSS:.0%}", f"missed > {GAIN:.0%}"
AFTER_FOG = {  # streams that a champion adapted to fog meets
    f"{name}, after fog": name
    for name in ("clean", "clean, sevens × 10", "brightness", "fog", "translate")
}


class Stream(NamedTuple):
    """x: (N, 28, 28) float32; labels: (N,); weights: (N,), how often each row occurs."""

    x: Tensor
    labels: np.ndarray
    weights: np.ndarray

    def draw(self, rows: int, random: np.random.Generator) -> Tensor:
        """Return rows of the half that may be drawn."""
        weights = self.weights[HELD_OUT]
        return self.x[HELD_OUT][random.choice(len(weights), rows, p=weights / weights.sum())]

    def accuracy(self, network: nn.Module) -> float:
        """Return the accuracy on the other half."""
        correct = answers(network, self.x[UNSEEN]) == self.labels[UNSEEN]
        return float(np.average(correct, weights=self.weights[UNSEEN]))


class Decision(NamedTuple):
    """The accuracies, the gain of the network that was promoted, if one was, and the highest gain
    that was to be had."""

    judge: float
    champion: float
    re_estimated: float
    gain: float | None
    possible: float


def answers(network: nn.Module, x: Tensor) -> np.ndarray:
    """Return the predicted classes (N,) of images (N, 28, 28) float32."""
    return logits_of(network.eval(), x).argmax(dim=1).numpy()


def changes() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the ways to change images, by name."""
    random = np.random.default_rng(0)
    half = {f"half {kind}": partial(change_half, CORRUPTIONS[kind]) for kind in KINDS}
    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "clean": lambda images: images
    } | CORRUPTIONS
    others: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "brightness + 25": lambda images: to_pixels(images + 25.0),
        "noise, σ = 20": lambda images: to_pixels(images + random.normal(0, 20, images.shape)),
        "noise, σ = 100": lambda images: to_pixels(images + random.normal(0, 100, images.shape)),
        "blur, σ = 1": lambda images: ndimage.gaussian_filter(images, (0, 1, 1)),
        "dimmed to 30%": lambda images: to_pixels(images * 0.3),
        "inverted": lambda images: 255 - images,
        "noise alone": lambda images: random.integers(0, 256, images.shape, np.uint8),
    }
    return found | others | half


def change_half(change: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Change two of four images, one of which may be drawn."""
    changed = np.arange(len(images)) // 2 % 2 == 1
    return np.where(changed[:, None, None], change(images), images)


def streams(dataset: Dataset) -> dict[str, Stream]:
    """Return the streams by name."""
    labels = dataset.test_labels
    found = {}
    for name, change in changes().items():
        x = scale_pixels(change(dataset.test_images))
        found[name] = Stream(x, labels, np.ones(len(labels)))
        for times in SEVENS if name in ("clean", *KINDS) else ():
            weights = np.where(labels == 7, times, 1)
            found[f"{name}, sevens × {times}"] = Stream(x, labels, weights)
    return found


def train_network(key: str, seed: int) -> nn.Module:
    """Return a network trained as the stage `train` does."""
    torch.set_num_threads(1)
    network = initial_network(key, seed)
    params = load_params().train.model_copy(update={"seed": seed, "device": "cpu"})
    for _ in train(network, load_dataset(), params):
        pass
    return network


def train_pairs(keys: tuple[str, str], pairs: int, first: int) -> list[tuple[nn.Module, nn.Module]]:
    """Return pairs of networks, with seeds from the first on."""
    jobs = [(key, seed) for seed in range(first, first + pairs) for key in keys]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        done = pool.map(train_network, *zip(*jobs, strict=True))
        networks = list(tqdm(done, "trainings", len(jobs), disable=None))
    return list(zip(networks[::2], networks[1::2], strict=True))


def decide(
    network: nn.Module,
    judge: nn.Module,
    champion: nn.Module,
    stream: Stream,
    prior: Tensor,
    random: np.random.Generator,
) -> Decision:
    """Draw rows, re-estimate the network from one half of them, and judge by the other.

    champion: the network, or one that was re-estimated from it; prior: (classes,).
    """
    params = load_params().adapt
    estimating, judging = stream.draw(params.rows, random).split(params.rows // 2)
    candidates = {RE_ESTIMATED: re_estimate_for_mix(network, estimating, prior)}
    if champion is not network:
        candidates[TRAINED] = network
    choice = choose(
        {name: answers(candidate, judging) for name, candidate in candidates.items()},
        answers(champion, judging),
        answers(judge, judging),
        np.full(len(judging), -1),
        params,
    )
    before = stream.accuracy(champion)
    after = {name: stream.accuracy(candidate) for name, candidate in candidates.items()}
    gain = after[choice.candidate] - before if choice.candidate else None
    possible = max(after.values()) - before
    return Decision(stream.accuracy(judge), before, after[RE_ESTIMATED], gain, possible)


def row(name: str, decisions: list[Decision]) -> str:
    """Return a row of the table."""
    means = np.mean([decision[:3] for decision in decisions], axis=0)
    gains = [decision.gain for decision in decisions if decision.gain is not None]
    better, worse = sum(gain > LOSS for gain in gains), sum(gain < -LOSS for gain in gains)
    missed = sum(d.gain is None and d.possible > GAIN for d in decisions)
    counts = map(str, (len(decisions), len(gains), better, worse, missed))
    cells = [name, *(f"{mean:.3f}".lstrip("0") for mean in means), *counts]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a row per stream, and whether the demands are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.adapt", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="of networks (default: 5)")
    parser.add_argument("--seed", type=int, default=1, help="of the first pair (default: 1)")
    parser.add_argument("--draws", type=int, default=5, help="per pair and stream (default: 5)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    params, dataset, random = load_params(), load_dataset(), np.random.default_rng(0)
    prior = torch.from_numpy(np.bincount(dataset.train_labels) / len(dataset.train_labels))
    pairs = train_pairs(
        (params.export.network, params.adapt.judge), arguments.pairs, arguments.seed
    )
    found = streams(dataset)
    heads = "stream", "judge", "champion", "re-estimated", "decisions", "promoted", *OUTCOMES
    print(f"| {' | '.join(heads)} |")
    print("| --- " * len(heads) + "|")
    decisions: dict[str, list[Decision]] = {}
    names = {name: name for name in found} | AFTER_FOG
    for title, name in tqdm(names.items(), "streams", disable=None):
        decisions[title] = []
        for network, judge in pairs * arguments.draws:
            champion = network
            if title in AFTER_FOG:
                fog = found["fog"].draw(params.adapt.rows // 2, random)
                champion = re_estimate_for_mix(network, fog, prior)
            decision = decide(network, judge, champion, found[name], prior, random)
            decisions[title].append(decision)
        print(row(title, decisions[title]), flush=True)
    everything = [decision for some in decisions.values() for decision in some]
    print(row("all", everything))

    losses = np.mean([(decision.gain or 0) < -LOSS for decision in everything])
    repairs = np.mean(
        [
            decision.gain is not None
            for name in REPAIRS
            for decision in decisions[name]
            if decision.possible > GAIN
        ]
    )
    print(f"\npromotions that lose more than {LOSS:.0%}: in {losses:.2%} of the decisions")
    print(f"repairs that gain more than {GAIN:.0%}: {repairs:.1%} are promoted")
    sys.exit(bool(losses > MAX_LOSSES or repairs < MIN_REPAIRS))


if __name__ == "__main__":
    main()
