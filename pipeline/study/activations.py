"""Experiment `activations`: how far the values inside the network spread, layer by layer.

The networks of experiment `scale` at three scales, before training and after it. All 1000 images
pass as one batch in train mode, as the network sees them while it learns.
"""

import copy
from itertools import product

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.deep import DeepMLP
from pipeline.core.params import StudyParams
from pipeline.data.load import Dataset
from pipeline.study.deep import HE, LR, deep_network, draw_batches, unit_interval
from pipeline.study.pair import PAIR, Tables
from pipeline.study.scale import IMAGES, updates
from pipeline.train.loop import select
from pipeline.train.step import Step

SCALES = {"too small": 0.01, "good": HE, "too large": 0.5}  # standard deviations of the weights
BINS = torch.linspace(-8, 4, 49, dtype=torch.float64)  # log10 of activations > 0, 4 per decade


def describe(y: Tensor) -> dict[str, float]:
    """Return a layer's statistics for activations (images, units); NaN if one has overflowed."""
    if not y.isfinite().all():
        return dict.fromkeys(("spread", "zeros", "dead"), float("nan"))
    silent = y == 0
    return {
        "spread": y.std().item(),
        "zeros": silent.double().mean().item(),
        "dead": silent.all(dim=0).double().mean().item(),
    }


def inspect(network: DeepMLP, x: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the activations (images, units) and the weights' gradient of each hidden layer."""
    network = copy.deepcopy(network).train()  # whose running statistics may change
    activations: list[Tensor] = []
    for linear in network.linears[1:]:  # which takes the activations of the layer before
        linear.register_forward_pre_hook(lambda _linear, inputs: activations.append(inputs[0]))
    loss = cross_entropy(network(x), labels)
    weights = [linear.get_parameter("weight") for linear in network.linears[:-1]]
    return list(zip(activations, torch.autograd.grad(loss, weights), strict=True))


def measure(seed: int, params: StudyParams, dataset: Dataset, device: torch.device) -> Tables:
    """Return the tables `activations` and `histograms`, with one row per layer, and per bin.

    `spread` is the standard deviation of the activations, `zeros` the fraction that is 0, `dead`
    the fraction of units that are 0 for every image, `gradient` the norm of the weights' gradient.
    """
    batches = draw_batches(IMAGES, updates(params.scale_epochs), seed, device)
    x = unit_interval(dataset.train_images[:IMAGES], device)
    labels = torch.from_numpy(dataset.train_labels[:IMAGES]).to(device)
    rows, bins = [], []
    for key, (scale, std) in product(PAIR, SCALES.items()):
        network = deep_network(key, std, seed).to(device)
        step = Step(network)
        for moment in ("before training", "after training"):
            if moment == "after training":
                for batch in batches:
                    step(*select(batch, x, labels), LR)
            layers = inspect(network, x, labels)
            for number, (activations, gradient) in enumerate(layers, start=1):
                where = {"network": key, "moment": moment, "seed": seed}
                where |= {"scale": scale, "layer": number}
                y = activations.detach().double().cpu()
                rows.append(where | describe(y) | {"gradient": gradient.norm().item()})
                bins += [where | counts for counts in histogram(y)]
    return {"activations": pd.DataFrame(rows), "histograms": pd.DataFrame(bins)}


def histogram(y: Tensor) -> list[dict[str, float]]:
    """Return each bin's lower bound and its share of all activations."""
    counts, _ = torch.histogram(y[y > 0].log10(), BINS)
    shares = (counts / y.numel()).tolist()
    return [
        {"log10_from": left, "share": share}
        for left, share in zip(BINS.tolist()[:-1], shares, strict=True)
    ]
