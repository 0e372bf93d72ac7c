"""What the networks see of the training images: the place for augmentation."""

import torch
from torch import Tensor


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return a batch of training images as a network is to see them: as they are.

    x: (B, height, width) or (B, channels, height, width) float32 in [-1, 1]; generator: of this
    training, on the CPU, to be used for all that is random.
    """
    return x
