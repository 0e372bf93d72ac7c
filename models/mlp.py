"""A 784-128-64-10 perceptron for MNIST, plain and with batch normalization."""

import torch.nn.functional as F
from torch import Tensor, nn


class SimpleMLP(nn.Module):
    """Classify images with three linear layers and ReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 10) float32 for images (N, 28, 28) float32 in [-1, 1]."""
        x = images.reshape(-1, 784)  # (N, 784)
        x = F.relu(self.fc1(x))  # (N, 128)
        x = F.relu(self.fc2(x))  # (N, 64)
        return self.fc3(x)


class BatchNormMLP(nn.Module):
    """Classify images as `SimpleMLP` does, with batch normalization before each ReLU.

    In train mode a batch is normalized by its own statistics, so N must be at least 2;
    in eval mode by the running statistics, so each answer depends on its image alone.

    Source: Ioffe and Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 128)
        self.bn1 = nn.BatchNorm1d(128)
        self.fc2 = nn.Linear(128, 64)
        self.bn2 = nn.BatchNorm1d(64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 10) float32 for images (N, 28, 28) float32 in [-1, 1]."""
        x = images.reshape(-1, 784)  # (N, 784)
        x = F.relu(self.bn1(self.fc1(x)))  # (N, 128)
        x = F.relu(self.bn2(self.fc2(x)))  # (N, 64)
        return self.fc3(x)
