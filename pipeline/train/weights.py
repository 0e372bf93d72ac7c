"""The bytes of a network's weights."""

import torch
from safetensors.torch import save
from torch import nn


def weights_of(network: nn.Module) -> bytes:
    """Return the network's state as safetensors, each tensor with memory of its own and in rows:
    the format knows neither tied weights nor other layouts."""
    state = network.state_dict()
    return save({name: t.clone(memory_format=torch.contiguous_format) for name, t in state.items()})
