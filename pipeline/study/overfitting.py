"""Experiment `overfitting`: training on only 300 images, and testing on others.

Networks with two and with five hidden layers, with and without batch normalization and dropout, at
three learning rates. All variants of a seed and shape start from the same linear layers and see the
same batches of the same 300 images; every seed draws other images.
"""

from itertools import product
from typing import NamedTuple

import pandas as pd
import torch

from models.deep import DeepMLP
from pipeline.core.params import StudyParams
from pipeline.data.load import Dataset
from pipeline.study.deep import HIDDEN, unit_interval
from pipeline.study.pair import NORMED, PAIR, RUN, Tables
from pipeline.train.loop import evaluate, select, shuffle
from pipeline.train.step import Step

IMAGES = 300
BATCH_SIZE = 100
LRS = (0.01, 0.03, 0.1)
DROPOUTS = (0.0, 0.2)


class Shape(NamedTuple):
    """A shape of network: the tutorial's with PyTorch's initial weights and images in [-1, 1], or
    the deeper one with He's initial weights and images in [0, 1]."""

    title: str
    hidden: tuple[int, ...]
    eps: float
    he: bool

    def build(self, key: str, dropout: float, seed: int) -> DeepMLP:
        """Return one of the pair; a seed gives both the same linear layers."""
        torch.manual_seed(seed)
        # Source: He et al., "Delving Deep into Rectifiers", 2015, https://arxiv.org/abs/1502.01852
        std = tuple((2 / inputs) ** 0.5 for inputs in (784, *self.hidden)) if self.he else None
        return DeepMLP(
            self.hidden, batch_norm=key == NORMED, dropout=dropout, std=std, eps=self.eps
        )


SHAPES = {
    "two": Shape("two hidden layers", (128, 64), eps=1e-5, he=False),
    "five": Shape("five hidden layers", HIDDEN, eps=1e-6, he=True),
}


def measure(seed: int, params: StudyParams, dataset: Dataset, device: torch.device) -> Tables:
    """Return the table `overfitting`: one row per variant at the end of the training, and at the
    largest rate one per tenth of it."""
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(dataset.train_images), generator=random)[:IMAGES].numpy()
    images = unit_interval(dataset.train_images[chosen], device)
    labels = torch.from_numpy(dataset.train_labels[chosen]).to(device)
    test_images = unit_interval(dataset.test_images, device)
    test_labels = torch.from_numpy(dataset.test_labels).to(device)
    epochs = params.overfitting_epochs
    orders = [shuffle(IMAGES, BATCH_SIZE, random, device) for _ in range(epochs)]

    rows = []
    for shape, key, dropout in product(SHAPES, PAIR, DROPOUTS):
        he = SHAPES[shape].he
        x, test_x = (x if he else 2 * x - 1 for x in (images, test_images))
        for lr in LRS:
            network = SHAPES[shape].build(key, dropout, seed).to(device)
            step = Step(network)
            for epoch, order in enumerate(orders, start=1):
                for batch in order:
                    step(*select(batch, x, labels), lr)
                if epoch == epochs or (lr == max(LRS) and epoch % max(epochs // 10, 1) == 0):
                    row = {"shape": shape, "network": key, "dropout": dropout, "lr": lr}
                    row |= {"seed": seed, "epoch": epoch}
                    _, row["train_accuracy"] = evaluate(network, x, labels)
                    _, row["test_accuracy"] = evaluate(network, test_x, test_labels)
                    rows.append(row)
    return {"overfitting": pd.DataFrame(rows)}


def small_set_accuracies(tables: dict[str, pd.DataFrame], shape: str, lr: float) -> pd.DataFrame:
    """The last accuracies in percent with few training images, by network, seed and dropout."""
    table = tables["overfitting"]
    last = table[table["epoch"] == table["epoch"].max()]
    its = last[(last["shape"] == shape) & (last["lr"] == lr)]
    return 100 * its.set_index([*RUN, "dropout"])[["train_accuracy", "test_accuracy"]]


def gap(tables: dict[str, pd.DataFrame], shape: str, lr: float) -> pd.Series:
    """How much lower the accuracy is on the test images than on the training images."""
    accuracies = small_set_accuracies(tables, shape, lr).xs(0.0, level="dropout")
    return accuracies["train_accuracy"] - accuracies["test_accuracy"]


def dropout_gain(tables: dict[str, pd.DataFrame], shape: str, lr: float) -> pd.Series:
    """How much dropout improves the test accuracy."""
    accuracies = small_set_accuracies(tables, shape, lr)["test_accuracy"].unstack("dropout")
    return accuracies.iloc[:, 1] - accuracies.iloc[:, 0]
