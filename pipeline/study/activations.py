"""Experiment `activations`: how far the values inside the network spread, layer by layer.

The networks of experiment `scale` at three scales, before training and after it. All 1000 images
pass as one batch, in train mode: as the network sees them while it learns.
"""

import pandas as pd
import torch
from torch import Tensor

from pipeline.artifacts import KEYS
from pipeline.data import Mnist
from pipeline.params import StudyParams
from pipeline.study.deep import (
    HE,
    HIDDEN,
    LR,
    columns,
    deep_networks,
    draw_batches,
    standard_weights,
)
from pipeline.study.ensemble import Layer, forward, gradients, sgd_step
from pipeline.study.scale import IMAGES, updates

SCALES = {"too small": 0.01, "good": HE, "too large": 0.5}  # standard deviations of the weights
BINS = torch.linspace(-8, 4, 49, dtype=torch.float64)  # log10 of activations above 0, four a decade


def describe(y: Tensor) -> dict[str, float]:
    """Return a layer's figures for activations (units, images), NaN once one has overflowed."""
    if not y.isfinite().all():
        return dict.fromkeys(("spread", "zeros", "dead"), float("nan"))
    silent = y == 0
    return {
        "spread": y.std().item(),
        "zeros": silent.double().mean().item(),
        "dead": silent.all(dim=1).double().mean().item(),
    }


def look(network: list[Layer], x: Tensor, labels: Tensor) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row for each scale and layer, and one more for each bin of its histogram.

    `spread` is the standard deviation of the activations, `zeros` the share that is 0, `dead` the
    share of units that are 0 for every image, `gradient` the norm of the weights' gradient.
    """
    rows, bins = [], []
    hidden, _, _ = forward(network, x)
    _, by_layer = gradients(network, x, labels)
    for number, (kept, gradient) in enumerate(zip(hidden, by_layer, strict=False), start=1):
        norms = torch.matmul(gradient.z, gradient.x.mT).flatten(1).norm(dim=1)
        for name, y, norm in zip(SCALES, kept.y.double().cpu(), norms.tolist(), strict=True):
            where = {"scale": name, "layer": number}
            rows.append(where | describe(y) | {"gradient": norm})
            counts, _ = torch.histogram(y[y > 0].log10(), BINS)
            shares = (counts / y.numel()).tolist()
            bins += [
                where | {"log10_from": left, "share": share}
                for left, share in zip(BINS.tolist(), shares, strict=False)
            ]
    return pd.DataFrame(rows), pd.DataFrame(bins)


def measure(
    seed: int, params: StudyParams, mnist: Mnist, device: torch.device
) -> dict[str, pd.DataFrame]:
    """Return the tables `activations` and `histograms`."""
    random = torch.Generator().manual_seed(seed)
    weights = standard_weights(random)
    batches = draw_batches(IMAGES, updates(params.scale_epochs), random).to(device)
    x = columns(mnist.train_images[:IMAGES], device)
    labels = torch.from_numpy(mnist.train_labels[:IMAGES]).to(device)
    scales = torch.tensor(list(SCALES.values()))[:, None].expand(-1, HIDDEN + 1)
    lr = torch.full((len(SCALES), 1, 1), LR, device=device)

    rows, bins = [], []
    for key in KEYS:
        network = deep_networks(weights, scales, key == "batchnorm_mlp", device)
        for moment in ("before training", "after training"):
            if moment == "after training":
                for batch in batches:
                    sgd_step(network, x[:, batch], labels[batch], lr)
            where = {"network": key, "moment": moment, "seed": seed}
            found, histogram = look(network, x, labels)
            rows.append(found.assign(**where))
            bins.append(histogram.assign(**where))
    return {"activations": pd.concat(rows), "histograms": pd.concat(bins)}
