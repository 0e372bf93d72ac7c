"""Experiment `overfitting`: 300 images, learnt by heart. What remains on images never seen?

The source's networks and the deeper ones, each with and without batch normalisation and dropout.
The four variants of a seed begin with the same linear layers and see the same batches of the same
300 images; every seed draws other images.
"""

import pandas as pd
import torch

from pipeline.artifacts import KEYS
from pipeline.data import Mnist
from pipeline.params import StudyParams
from pipeline.study.deep import columns, deep_networks, he_scales, standard_weights
from pipeline.study.ensemble import Dropout, Layer, accuracy, sgd_step
from pipeline.study.speed import source_networks

IMAGES = 300
BATCH_SIZE = 100
LR = 0.1
DROPOUTS = (0.0, 0.2)
SHAPES = {"two": "two hidden layers", "five": "five hidden layers"}


def begin(shape: str, key: str, seed: int, device: torch.device) -> list[Layer]:
    """Return one member for each dropout."""
    members = len(DROPOUTS)
    if shape == "two":
        return source_networks(key, members, seed, device)
    weights = standard_weights(torch.Generator().manual_seed(seed))
    return deep_networks(weights, he_scales().expand(members, -1), key == "batchnorm_mlp", device)


def measure(
    seed: int, params: StudyParams, mnist: Mnist, device: torch.device
) -> dict[str, pd.DataFrame]:
    """Return the table `overfitting`: a row for each variant and tenth of the training."""
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(mnist.train_images), generator=random)[:IMAGES].numpy()
    images = columns(mnist.train_images[chosen], device)
    labels = torch.from_numpy(mnist.train_labels[chosen]).to(device)
    test_images = columns(mnist.test_images, device)
    test_labels = torch.from_numpy(mnist.test_labels).to(device)
    epochs = params.overfitting_epochs
    orders = [torch.randperm(IMAGES, generator=random).to(device) for _ in range(epochs)]
    lr = torch.full((len(DROPOUTS), 1, 1), LR, device=device)

    frames = []
    for shape in SHAPES:
        x, test_x = (2 * x - 1 if shape == "two" else x for x in (images, test_images))
        for key in KEYS:
            network = begin(shape, key, seed, device)
            masks = torch.Generator(device).manual_seed(seed)
            dropout = Dropout(torch.tensor(DROPOUTS, device=device)[:, None, None], masks)
            for epoch, order in enumerate(orders, start=1):
                for batch in order.split(BATCH_SIZE):
                    sgd_step(network, x[:, batch], labels[batch], lr, dropout)
                if epoch % max(epochs // 10, 1) == 0 or epoch == epochs:
                    variant = {"shape": shape, "network": key, "dropout": DROPOUTS}
                    right = {
                        "train_accuracy": accuracy(network, x, labels).cpu(),
                        "test_accuracy": accuracy(network, test_x, test_labels).cpu(),
                    }
                    frames.append(pd.DataFrame({**variant, "seed": seed, "epoch": epoch, **right}))
    return {"overfitting": pd.concat(frames)}
