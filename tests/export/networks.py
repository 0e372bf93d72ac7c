"""The networks that the tests export: the pipeline's own, and others that it does not know."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import NETWORKS
from models.deep import DeepMLP
from tests.support import Stranger


class Convolutional(nn.Module):
    """A convolution whose padding is 0 in scaled pixels, with batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, kernel_size=3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 14 * 14, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 10) for images (B, 28, 28)."""
        x = F.relu(self.norm(self.conv(images.unsqueeze(1))))  # (B, 4, 14, 14)
        return self.fc(x.flatten(1))


class Residual(nn.Module):
    """A hidden layer and a shortcut around it, which both read the images."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 32)
        self.fc2 = nn.Linear(32, 10)
        self.shortcut = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 10) for images (B, 28, 28)."""
        x = images.flatten(1)
        return self.fc2(F.relu(self.fc1(x))) + self.shortcut(x)


def layer_norm_first() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LayerNorm(784), nn.Linear(784, 10))


def no_bias() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 32, bias=False),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def batch_norm_after_relu() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 10)
    )


OTHERS = {
    "deep": lambda: DeepMLP((20,) * 5, batch_norm=True, dropout=0.1),
    "stranger": Stranger,
    "convolutional": Convolutional,
    "residual": Residual,
    "layer_norm_first": layer_norm_first,
    "no_bias": no_bias,
    "batch_norm_after_relu": batch_norm_after_relu,
}
BUILDERS = {key: row.build for key, row in NETWORKS.items()} | OTHERS
# Those whose structure the tests know: not a network that is added to models/ later.
KNOWN = {"simple_mlp", "batchnorm_mlp", *OTHERS}
LINEAR_FIRST = KNOWN - {"convolutional", "residual", "layer_norm_first"}


def build(name: str) -> nn.Module:
    """Return a network in eval mode with random weights and statistics, the same at each call."""
    torch.manual_seed(0)
    network = BUILDERS[name]()
    for key, tensor in network.state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 2) if key.endswith("running_var") else tensor.normal_()
    return network.eval()
