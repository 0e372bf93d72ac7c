"""Experiment `price`: what batch normalization costs when the images change after the training.

Nothing is trained here: the networks of experiment `speed` classify corrupted test images. Some of
these images only serve to re-estimate the running statistics, without their labels; the accuracy
is that on the others.
"""

import numpy as np
import pandas as pd
import torch
from torch import nn

from pipeline.adapt.re_estimate import re_estimate, re_estimate_for_mix
from pipeline.data.corruptions import CORRUPTIONS
from pipeline.data.dataset import CLASSES
from pipeline.data.load import Dataset
from pipeline.data.tensors import scale_pixels
from pipeline.study.pair import NORMED, PLAIN, RUN, Tables
from pipeline.train.loop import evaluate

SAMPLE = 256  # images that the statistics are re-estimated on
COMMON = 7  # the class of half of the images in the sample with another class mix
KINDS = {"clean": np.copy} | CORRUPTIONS
CORRUPTED = {  # what each corruption makes of the images
    "brightness": "brighter",
    "contrast": "less contrasted",
    "fog": "foggy",
    "noise": "noisy",
    "blur": "blurred",
    "stripe": "inverted at both sides",
    "translate": "shifted by 2 pixels",
    "rotate": "rotated by 30°",
    "shear": "slanted",
    "scale": "shrunk to 70%",
}
TITLES = {"clean": "as in training"} | CORRUPTED


def measure(
    networks: dict[str, nn.Module], seed: int, dataset: Dataset, device: torch.device
) -> Tables:
    """Return the table `price`: the accuracy of each network on each kind of images, for the one
    with batch normalization with several running statistics."""
    images, all_labels = test_images(dataset)
    usual, sevens, judged = choose(all_labels)
    labels = torch.from_numpy(all_labels[judged]).to(device)
    counts = np.bincount(dataset.train_labels, minlength=CLASSES)
    prior = torch.from_numpy(counts / counts.sum()).to(device)
    plain, normed = networks[PLAIN], networks[NORMED]
    rows = []
    for kind, corrupt in KINDS.items():
        x = scale_pixels(corrupt(images)).to(device)
        variants = [
            (PLAIN, "as trained", plain),
            (NORMED, "as trained", normed),
            (NORMED, "re-estimated", re_estimate(normed, x[usual])),
            (NORMED, "half sevens", re_estimate(normed, x[sevens])),
            (NORMED, "half sevens, corrected", re_estimate_for_mix(normed, x[sevens], prior)),
        ]
        for key, variant, network in variants:
            where = {"network": key, "seed": seed, "variant": variant, "corruption": kind}
            _, accuracy = evaluate(network, x[judged], labels)
            rows.append(where | {"test_accuracy": accuracy})
    return {"price": pd.DataFrame(rows)}


def test_images(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return every second test image, and their labels: enough, in half the time."""
    return dataset.test_images[::2], dataset.test_labels[::2]


def choose(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices of a sample with the usual class mix, of one of which half are sevens, and
    of all images that are in neither."""
    usual = np.arange(SAMPLE)
    common, others = np.flatnonzero(labels == COMMON), np.flatnonzero(labels != COMMON)
    sevens = np.concatenate([common[: SAMPLE // 2], others[: SAMPLE // 2]])
    judged = np.setdiff1d(np.arange(len(labels)), np.concatenate([usual, sevens]))
    return usual, sevens, judged


def accuracies_on_kinds(tables: dict[str, pd.DataFrame], variant: str) -> pd.DataFrame:
    """The accuracies in percent of a variant by network, seed (rows) and corruption (columns)."""
    table = tables["price"]
    its = table[table["variant"] == variant]
    return 100 * its.pivot_table(index=RUN, columns="corruption", values="test_accuracy")


def lost(tables: dict[str, pd.DataFrame], corruption: str) -> pd.Series:
    """How much lower the accuracy is on corrupted images."""
    accuracies = accuracies_on_kinds(tables, "as trained")
    return accuracies["clean"] - accuracies[corruption]


def re_estimation_gains(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return by how much the re-estimation raises the accuracy, by seed and corruption."""
    as_trained, re_estimated = (
        accuracies_on_kinds(tables, variant).loc[NORMED]
        for variant in ("as trained", "re-estimated")
    )
    return re_estimated - as_trained
