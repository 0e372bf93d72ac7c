"""The setting of the experiments with five hidden layers: images in [0, 1] and batches of 100.

Source: Saito, "Deep Learning from Scratch", O'Reilly Japan, 2016, chapter 6
"""

import numpy as np
import torch
from torch import Tensor

from models.deep import DeepMLP
from pipeline.study.pair import NORMED

HIDDEN = (100,) * 5
BATCH_SIZE = 100
LR = 0.01

HE = (2 / 100) ** 0.5  # the standard deviations recommended for a hidden layer of 100 units
XAVIER = (1 / 100) ** 0.5


def deep_network(key: str, std: float, seed: int) -> DeepMLP:
    """Return one of the pair with normally distributed initial weights; a seed gives both the
    same ones."""
    torch.manual_seed(seed)
    return DeepMLP(HIDDEN, batch_norm=key == NORMED, std=(std,) * (len(HIDDEN) + 1))


def unit_interval(images: np.ndarray, device: torch.device) -> Tensor:
    """Return images (N, 28, 28) uint8 as float32 in [0, 1]."""
    return torch.tensor(images, device=device).div(255)


def draw_batches(images: int, updates: int, seed: int, device: torch.device) -> Tensor:
    """Return the indices of each batch's images (updates, B), drawn with replacement."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(images, (updates, BATCH_SIZE), generator=random).to(device)
