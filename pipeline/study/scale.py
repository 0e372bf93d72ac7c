"""Experiment `scale`: does batch normalization make training independent of the initial scale?

Repeats a well-known figure: the first 1000 training images, 16 scales from 1 down to 0.0001, and
the accuracy on the same images after the first of every ten updates, called an epoch.

Source: Saito, "Deep Learning from Scratch", O'Reilly Japan, 2016, section 6.3
"""

from itertools import product

import pandas as pd
import torch

from pipeline.core.params import StudyParams
from pipeline.data.load import Dataset
from pipeline.study.deep import BATCH_SIZE, LR, deep_network, draw_batches, unit_interval
from pipeline.study.pair import PAIR, Tables
from pipeline.train.loop import evaluate, select
from pipeline.train.step import Step

IMAGES = 1000
PER_EPOCH = IMAGES // BATCH_SIZE
SCALES = torch.logspace(0, -4, 16).tolist()


def updates(epochs: int) -> int:
    """Return the number of updates up to the last of `epochs` measurements."""
    return (epochs - 1) * PER_EPOCH + 1


def measure(seed: int, params: StudyParams, dataset: Dataset, device: torch.device) -> Tables:
    """Return the table `scale`: one row per network, scale and epoch."""
    batches = draw_batches(IMAGES, updates(params.scale_epochs), seed, device)
    x = unit_interval(dataset.train_images[:IMAGES], device)
    labels = torch.from_numpy(dataset.train_labels[:IMAGES]).to(device)
    rows = []
    for key, scale in product(PAIR, SCALES):
        network = deep_network(key, scale, seed).to(device)
        step = Step(network)
        for update, batch in enumerate(batches):
            step(*select(batch, x, labels), LR)
            if update % PER_EPOCH == 0:
                where = {"network": key, "scale": scale, "seed": seed}
                _, accuracy = evaluate(network, x, labels)
                rows.append(where | {"epoch": update // PER_EPOCH, "accuracy": accuracy})
    return {"scale": pd.DataFrame(rows)}
