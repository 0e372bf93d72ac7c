"""The data set as PyTorch tensors, with the pixels scaled to what the networks are trained on."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.load import Dataset

BATCH = 250  # images that are evaluated at once: all of them would need gigabytes in wide networks


class Tensors(NamedTuple):
    """Images are (N, *IMAGE_SHAPE) float32 in [-1, 1]; labels are (N,) int64."""

    train_x: Tensor
    train_labels: Tensor
    test_x: Tensor
    test_labels: Tensor


def to_tensors(dataset: Dataset, device: torch.device) -> Tensors:
    """Return the whole data set on a device."""
    return Tensors(
        scale_pixels(dataset.train_images).to(device),
        torch.from_numpy(dataset.train_labels).to(device),
        scale_pixels(dataset.test_images).to(device),
        torch.from_numpy(dataset.test_labels).to(device),
    )


def scale_pixels(images: np.ndarray) -> Tensor:
    """Return images (N, *IMAGE_SHAPE) uint8 as float32 in [-1, 1], bit for bit as torchvision's
    `ToTensor` and `Normalize(0.5, 0.5)` do."""
    return torch.tensor(images, dtype=torch.float32).div_(255).sub_(0.5).div_(0.5)


@torch.inference_mode()
def logits_of(network: nn.Module, x: Tensor) -> Tensor:
    """Return a network's logits (N, classes) for images (N, …), in the mode that it is in."""
    return torch.cat([network(batch) for batch in x.split(BATCH)])
