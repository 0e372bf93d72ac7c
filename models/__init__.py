"""The two networks that are compared, and the table that names them."""

from torch import nn

from models.mlp import BatchNormMLP, SimpleMLP

NETWORKS: dict[str, type[nn.Module]] = {
    "simple_mlp": SimpleMLP,
    "batchnorm_mlp": BatchNormMLP,
}

__all__ = ["NETWORKS", "BatchNormMLP", "SimpleMLP"]
