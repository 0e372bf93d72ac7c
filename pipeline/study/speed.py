"""Experiments `speed` and `rates`: how fast the source's two networks learn, by learning rate.

`speed` follows the source's recipe; `rates` does the same for fewer epochs at seven learning rates
at once. The networks of a seed begin with the same linear layers and see the same batches.
"""

from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.artifacts import KEYS
from pipeline.data import Mnist
from pipeline.params import StudyParams
from pipeline.study.ensemble import Layer, accuracy, batch_norm, sgd_step
from pipeline.train import normalise

SIZES = (784, 128, 64, 10)
BATCH_SIZE = 64
LR = 0.01
LRS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def source_networks(key: str, members: int, seed: int, device: torch.device) -> list[Layer]:
    """Return equal members, each as `pipeline.train.initial_network` makes it.

    Draws from a generator of its own, since tasks may share PyTorch's global one as threads.
    """
    random = torch.Generator().manual_seed(seed)
    layers = []
    for inputs, units in pairwise(SIZES):
        bound = inputs**-0.5
        weight = torch.empty(units, inputs).uniform_(-bound, bound, generator=random)
        bias = torch.empty(units, 1).uniform_(-bound, bound, generator=random)
        weights, biases = (t.repeat(members, 1, 1).to(device) for t in (weight, bias))
        layers.append(Layer(weights, biases))
    if key == "batchnorm_mlp":
        for layer, units in zip(layers, SIZES[1:-1], strict=False):
            layer.norm = batch_norm(members, units, device)
    return layers


def measured_updates(epochs: int, per_epoch: int) -> list[int]:
    """Return after which updates the accuracy is measured: seven in the first epoch, then two."""
    first = {round(per_epoch * part / 7) for part in range(1, 8)}
    later = {round(per_epoch * half / 2) for half in range(3, 2 * epochs + 1)}
    return sorted(first | later)


def epoch_batches(images: int, random: torch.Generator) -> tuple[Tensor, ...]:
    """Return the indices of an epoch's batches, as `pipeline.train.train_epoch` shuffles them."""
    return torch.randperm(images, generator=random).split(BATCH_SIZE)


def learn(
    key: str, lrs: tuple[float, ...], epochs: int, seed: int, mnist: Mnist, device: torch.device
) -> pd.DataFrame:
    """Train one network for each learning rate; return a row for each measurement.

    `train_loss` is the mean batch loss since the row before.
    """
    x = normalise(mnist.train_images).flatten(1).to(device)  # (N, 784)
    test_x = normalise(mnist.test_images).flatten(1).T.to(device)  # (784, N)
    labels, test_labels = (
        torch.from_numpy(values).to(device) for values in (mnist.train_labels, mnist.test_labels)
    )
    network = source_networks(key, len(lrs), seed, device)
    lr = torch.tensor(lrs, device=device)[:, None, None]
    order = torch.Generator().manual_seed(seed)
    per_epoch = -(-len(x) // BATCH_SIZE)
    measured = set(measured_updates(epochs, per_epoch))

    update, losses, frames = 0, [], []
    for _ in range(epochs):
        for batch in epoch_batches(len(x), order):
            batch = batch.to(device)
            losses.append(sgd_step(network, x.index_select(0, batch).T, labels[batch], lr))
            update += 1
            if update in measured:
                columns = {
                    "update": update,
                    "epoch": update / per_epoch,
                    "train_loss": torch.stack(losses).double().mean(dim=0).cpu(),
                    "test_accuracy": accuracy(network, test_x, test_labels).cpu(),
                }
                frames.append(pd.DataFrame({"network": key, "lr": lrs, "seed": seed, **columns}))
                losses = []
    return pd.concat(frames)


def measure_speed(
    seed: int, params: StudyParams, mnist: Mnist, device: torch.device
) -> dict[str, pd.DataFrame]:
    """Return the table `speed`."""
    few = first_images(mnist, params.images)
    frames = [learn(key, (LR,), params.epochs, seed, few, device) for key in KEYS]
    return {"speed": pd.concat(frames)}


def measure_rates(
    seed: int, params: StudyParams, mnist: Mnist, device: torch.device
) -> dict[str, pd.DataFrame]:
    """Return the table `rates`."""
    few = first_images(mnist, params.images)
    frames = [learn(key, LRS, params.rates_epochs, seed, few, device) for key in KEYS]
    return {"rates": pd.concat(frames)}


def first_images(mnist: Mnist, count: int) -> Mnist:
    """Return MNIST with fewer training images."""
    images, labels = mnist.train_images[:count], mnist.train_labels[:count]
    return mnist._replace(train_images=np.ascontiguousarray(images), train_labels=labels)
