"""Experiment `scale`: does batch normalisation free a network from its initial weights' scale?

Repeats the classic figure: the first 1000 training images, 16 scales from 1 down to 0.0001, and
the accuracy on the same images after the first of every ten updates, an epoch.

Source: Saito, "Deep Learning from Scratch", O'Reilly Japan, 2016, section 6.3
"""

import pandas as pd
import torch

from pipeline.artifacts import KEYS
from pipeline.data import Mnist
from pipeline.params import StudyParams
from pipeline.study.deep import (
    BATCH_SIZE,
    HIDDEN,
    LR,
    columns,
    deep_networks,
    draw_batches,
    standard_weights,
)
from pipeline.study.ensemble import accuracy, sgd_step

IMAGES = 1000
PER_EPOCH = IMAGES // BATCH_SIZE
SCALES = torch.logspace(0, -4, 16)


def updates(epochs: int) -> int:
    """Return how many updates it takes to measure `epochs` times."""
    return (epochs - 1) * PER_EPOCH + 1


def measure(
    seed: int, params: StudyParams, mnist: Mnist, device: torch.device
) -> dict[str, pd.DataFrame]:
    """Return the table `scale`: a row for each network, scale and epoch."""
    random = torch.Generator().manual_seed(seed)
    weights = standard_weights(random)
    batches = draw_batches(IMAGES, updates(params.scale_epochs), random).to(device)
    x = columns(mnist.train_images[:IMAGES], device)
    labels = torch.from_numpy(mnist.train_labels[:IMAGES]).to(device)
    scales = SCALES[:, None].expand(-1, HIDDEN + 1)
    lr = torch.full((len(SCALES), 1, 1), LR, device=device)

    frames = []
    for key in KEYS:
        network = deep_networks(weights, scales, key == "batchnorm_mlp", device)
        for update, batch in enumerate(batches):
            sgd_step(network, x[:, batch], labels[batch], lr)
            if update % PER_EPOCH == 0:
                row = {"seed": seed, "epoch": update // PER_EPOCH}
                right = accuracy(network, x, labels).cpu()
                frames.append(
                    pd.DataFrame(
                        {"network": key, "scale": SCALES.tolist(), **row, "accuracy": right}
                    )
                )
    return {"scale": pd.concat(frames)}
