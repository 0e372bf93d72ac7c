"""Experiment `centering`: why batch normalization costs accuracy on images with other grey levels.

Batch normalization subtracts what all images of a batch have in common, from the sums of each unit.
Here the mean of all training images is subtracted from the images themselves, for both networks. If
it is the subtraction that costs, the network without batch normalization pays as well.
"""

from itertools import product

import pandas as pd
import torch

from pipeline.core.params import StudyParams
from pipeline.data.corruptions import PHOTOMETRIC
from pipeline.data.load import Dataset
from pipeline.data.tensors import scale_pixels, to_tensors
from pipeline.study.pair import PAIR, Tables
from pipeline.study.price import KINDS, test_images
from pipeline.study.speed import first_images, learn
from pipeline.train.loop import evaluate

IMAGES = 20_000
LR = 0.1  # so that one epoch teaches both networks most


def measure(seed: int, params: StudyParams, dataset: Dataset, device: torch.device) -> Tables:
    """Return the table `centering`: one row per network, its images, and their corruption."""
    tensors = to_tensors(first_images(dataset, min(params.images, IMAGES)), device)
    images, labels = test_images(dataset)
    tensors = tensors._replace(test_labels=torch.from_numpy(labels).to(device))
    kinds = {kind: scale_pixels(KINDS[kind](images)).to(device) for kind in ("clean", *PHOTOMETRIC)}
    mean = tensors.train_x.mean(dim=0)
    rows = []
    for key, (name, center) in product(PAIR, {"usual": 0 * mean, "centered": mean}.items()):
        its = tensors._replace(train_x=tensors.train_x - center, test_x=kinds["clean"] - center)
        network, _ = learn(key, LR, params.rates_epochs, seed, its)
        for kind, x in kinds.items():
            where = {"network": key, "images": name, "seed": seed, "corruption": kind}
            _, accuracy = evaluate(network, x - center, its.test_labels)
            rows.append(where | {"test_accuracy": accuracy})
    return {"centering": pd.DataFrame(rows)}
