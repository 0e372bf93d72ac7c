"""A perceptron of any depth for the study, which varies what the other networks keep fixed."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class DeepMLP(nn.Module):
    """Classify images with several hidden layers: linear, batch normalization, ReLU, dropout.

    hidden: the number of units of each hidden layer. dropout: the probability of zeroing a unit.
    std: the standard deviation of each linear layer's initial weights, with biases 0; None keeps
    PyTorch's initial weights and biases. eps: added to the variance by batch normalization.

    The same seed gives the same linear layers with and without batch normalization. The running
    variances start at 0, as in the book; PyTorch's 1 would drown the variance of small weights.

    Source: Saito, "Deep Learning from Scratch", O'Reilly Japan, 2016, chapter 6
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (100,) * 5,
        *,
        batch_norm: bool = False,
        dropout: float = 0.0,
        std: tuple[float, ...] | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        linears = [nn.Linear(*sizes) for sizes in pairwise((784, *hidden, 10))]
        norms = [nn.BatchNorm1d(units, eps=eps) for units in hidden] if batch_norm else []
        for norm in norms:
            nn.init.constant_(norm.get_buffer("running_var"), 0)
        for linear, deviation in zip(linears, std or (), strict=std is not None):
            nn.init.normal_(linear.weight, std=deviation)
            nn.init.zeros_(linear.bias)
        self.linears = nn.ModuleList(linears)
        self.norms = nn.ModuleList(norms or [nn.Identity() for _ in hidden])
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 10) float32 for images (B, 28, 28) float32."""
        x = images.reshape(-1, 784)  # (B, 784)
        *hidden, last = self.linears
        for linear, norm in zip(hidden, self.norms, strict=True):
            x = self.dropout(F.relu(norm(linear(x))))  # (B, units)
        return last(x)
