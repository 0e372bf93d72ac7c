"""Experiments `speed` and `rates`: how fast the pair of networks learns, by learning rate.

`speed` follows the tutorial's recipe; `rates` does the same for fewer epochs at seven learning
rates. The networks of a seed start from the same linear layers and see the same batches.
"""

from itertools import chain

import pandas as pd
import torch
from torch import nn

from pipeline.core.params import StudyParams
from pipeline.data.load import Dataset
from pipeline.data.tensors import Tensors, to_tensors
from pipeline.study import price
from pipeline.study.pair import PAIR, Tables
from pipeline.train.loop import evaluate, initial_network, select, shuffle
from pipeline.train.step import Step

BATCH_SIZE = 64
LR = 0.01
LRS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def measured_updates(epochs: int, per_epoch: int) -> set[int]:
    """Return the updates after which the accuracy is measured: seven in the first epoch and two in
    each later one."""
    first = {round(per_epoch * part / 7) for part in range(1, 8)}
    later = {round(per_epoch * half / 2) for half in range(3, 2 * epochs + 1)}
    return first | later


def learn(
    key: str, lr: float, epochs: int, seed: int, tensors: Tensors
) -> tuple[nn.Module, pd.DataFrame]:
    """Return a network trained at a learning rate, and one row per measurement.

    `train_loss` is the mean batch loss since the previous row.
    """
    x, labels, test_x, test_labels = tensors
    network = initial_network(key, seed).to(x.device)
    step = Step(network)
    per_epoch = -(-len(x) // BATCH_SIZE)
    measured = measured_updates(epochs, per_epoch)
    order = torch.Generator().manual_seed(seed)
    shuffles = (shuffle(len(x), BATCH_SIZE, order, x.device) for _ in range(epochs))

    rows, losses = [], []
    for update, batch in enumerate(chain.from_iterable(shuffles), start=1):
        losses.append(step(*select(batch, x, labels), lr))
        if update in measured:
            row = {"network": key, "lr": lr, "seed": seed}
            row |= {"update": update, "epoch": update / per_epoch}
            row["train_loss"] = torch.stack(losses).double().mean().item()
            _, row["test_accuracy"] = evaluate(network, test_x, test_labels)
            rows.append(row)
            losses = []
    return network, pd.DataFrame(rows)


def measure_speed(seed: int, params: StudyParams, dataset: Dataset, device: torch.device) -> Tables:
    """Return the table `speed`, and that of experiment `price` on the trained networks."""
    tensors = to_tensors(first_images(dataset, params.images), device)
    learned = {key: learn(key, LR, params.epochs, seed, tensors) for key in PAIR}
    networks = {key: network for key, (network, _) in learned.items()}
    speed = pd.concat([table for _, table in learned.values()])
    return {"speed": speed} | price.measure(networks, seed, dataset, device)


def measure_rates(seed: int, params: StudyParams, dataset: Dataset, device: torch.device) -> Tables:
    """Return the table `rates`."""
    tensors = to_tensors(first_images(dataset, params.images), device)
    runs = [learn(key, lr, params.rates_epochs, seed, tensors) for key in PAIR for lr in LRS]
    return {"rates": pd.concat([table for _, table in runs])}


def first_images(dataset: Dataset, count: int) -> Dataset:
    """Return the data set with the first `count` training images alone.

    Raises:
        ValueError: there are fewer.
    """
    available = len(dataset.train_images)
    if count > available:
        raise ValueError(f"study.images must be at most {available}, got {count}")
    images, labels = dataset.train_images[:count], dataset.train_labels[:count]
    return dataset._replace(train_images=images, train_labels=labels)
