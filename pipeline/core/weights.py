"""The bytes of a network's weights, and the network again."""

import torch
from safetensors.torch import load, save
from torch import nn

from models import NETWORKS


def weights_of(network: nn.Module) -> bytes:
    """Return the network's state as safetensors, each tensor with memory of its own and in rows:
    the format knows neither tied weights nor other layouts."""
    state = network.state_dict()
    return save({name: t.clone(memory_format=torch.contiguous_format) for name, t in state.items()})


def restored(key: str, weights: bytes) -> nn.Module:
    """Return a new network with these weights, in eval mode."""
    network = NETWORKS[key].build()
    network.load_state_dict(load(weights))
    return network.eval()
