"""Re-estimates the running statistics of batch normalization from unlabelled images.

Source: Schneider et al., "Improving robustness against common corruptions by covariate shift
adaptation", 2020, https://arxiv.org/abs/2006.16971; the correction of the class mix is ours
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
ROUNDS = 5  # of weighting images and re-estimating
MAX_WEIGHT = 20.0  # or a few images of a rare class would decide alone


@torch.no_grad()
def re_estimate(network: nn.Module, images: Tensor, weights: Tensor | None = None) -> nn.Module:
    """Return a copy in eval mode, each of whose batch normalization layers has the mean and the
    variance of its own inputs as its running statistics.

    Layer by layer, in a single pass: a layer's inputs are already normalized by the new statistics
    of the layers before it. images: (N, …), as the network takes them; weights: (N,) of the images,
    by default all equal.

    Raises:
        ValueError: see `running_norms`; or a layer is used twice, or there are fewer than two
            images.
    """
    network = copy.deepcopy(network).eval()
    norms = running_norms(network)
    if len(images) < 2:
        raise ValueError(f"statistics need at least two images, got {len(images)}")
    if weights is None:
        weights = torch.ones(len(images), device=images.device)

    measured = set()

    def measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        if norm in measured:
            raise ValueError(f"{type(network).__name__} uses a batch normalization layer twice")
        measured.add(norm)
        mean, variance = moments(inputs[0], weights)
        norm.get_buffer("running_mean").copy_(mean)
        norm.get_buffer("running_var").copy_(variance)

    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    network(images)
    for hook in hooks:
        hook.remove()
    return network


def running_norms(network: nn.Module) -> Sequence[nn.Module]:
    """Return the layers that have running statistics.

    Raises:
        ValueError: there is none.
    """
    norms = [m for m in network.modules() if isinstance(m, NORMS) and m.running_mean is not None]
    if not norms:
        raise ValueError(f"{type(network).__name__} has no running statistics to re-estimate")
    return norms


def moments(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean and unbiased variance of each channel, (C,) float64, of x (N, C, …)
    over all images and positions."""
    values = x.double().transpose(0, 1).flatten(1)  # (C, N * positions)
    weights = weights.double().repeat_interleave(values.shape[1] // len(weights))
    weights = weights / weights.sum()
    mean = values @ weights
    variance = (values - mean[:, None]).square() @ weights
    return mean, variance / (1 - weights.square().sum())


@torch.no_grad()
def re_estimate_for_mix(network: nn.Module, images: Tensor, prior: Tensor) -> nn.Module:
    """Return what `re_estimate` returns for images whose class mix is not the training images'.

    Images of classes that the network predicts too often, compared with the prior, weigh less, and
    others more: Σ_k p(k | image) · prior(k) / mix(k), where mix is the mean of p over the images.
    prior: (classes,), the mix of the training labels.
    """
    adapted = re_estimate(network, images)
    for _ in range(ROUNDS):
        probabilities = adapted(images).double().softmax(dim=1)  # (N, classes)
        weights = probabilities @ (prior / probabilities.mean(dim=0).clamp(min=1e-9))
        adapted = re_estimate(network, images, weights.clamp(max=MAX_WEIGHT))
    return adapted
