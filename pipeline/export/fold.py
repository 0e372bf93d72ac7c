"""Folds a trained network for inference, in float64: batch normalization and pixel scaling vanish
into the linear layers before and after them."""

import copy

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node, symbolic_trace
from torch.fx.experimental.optimization import fuse

from pipeline.data.dataset import IMAGE_SHAPE, SCALE, SHIFT

RESHAPES = {"reshape", "view", "flatten", torch.flatten, nn.Flatten}


class Scaled(nn.Module):
    """A network behind the scaling of the pixels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, CLASSES) for pixels (B, *IMAGE_SHAPE) in 0 to 255."""
        return self.network(images * SCALE + SHIFT)


def fold(network: nn.Module) -> nn.Module:
    """Return a float64 network that takes pixels (B, *IMAGE_SHAPE) in 0 to 255 and returns the
    logits.

    Each batch normalization directly after a linear or convolutional layer is folded into it. The
    scaling of the pixels is folded into the first layer if that is linear, or else comes first.
    A network that `torch.fx` cannot trace, or whose logits folding would change, stays as it is.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", 2018, section 3.2, https://arxiv.org/abs/1712.05877

    Raises:
        ValueError: a layer is in train mode.
    """
    if any(module.training for module in network.modules()):
        raise ValueError("the network is in train mode: call network.eval() before exporting it")
    whole = Scaled(copy.deepcopy(network).double())
    try:
        folded = fold_traced(symbolic_trace(copy.deepcopy(whole.network)))
        return folded if agree(folded, whole) else whole
    except Exception:  # PyTorch raises a different type for each cause
        return whole


def fold_traced(network: GraphModule) -> GraphModule:
    """Return a traced network folded; see `fold`."""
    separate(network)
    folded = fuse(network, inplace=True, no_trace=True)
    assert isinstance(folded, GraphModule)
    fold_scaling(folded)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded


@torch.no_grad()
def agree(folded: nn.Module, whole: nn.Module) -> bool:
    """Return whether two networks give the same logits, but for rounding, to a few images."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4, *IMAGE_SHAPE), generator=random).double()
    return torch.allclose(folded(images), whole(images), rtol=1e-6, atol=1e-6)


def layer(network: GraphModule, node: Node) -> nn.Module | None:
    """Return the module that a node of the graph calls, None if it calls none."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def separate(network: GraphModule) -> None:
    """Give each call of a module after its first a copy of its own, in place: only one of them may
    be followed by batch normalization."""
    called = set()
    for node in network.graph.find_nodes(op="call_module"):
        module = network.get_submodule(str(node.target))
        if module in called:
            network.add_submodule(node.name, copy.deepcopy(module))
            node.target = node.name
        called.add(module)


def first_layer(network: GraphModule) -> Node:
    """Return the node that the images reach first, reshaping aside."""
    (node,) = network.graph.find_nodes(op="placeholder")
    while len(node.users) == 1:
        (node,) = node.users
        if node.target not in RESHAPES and type(layer(network, node)) not in RESHAPES:
            break
    return node


def fold_scaling(network: GraphModule) -> None:
    """Let the graph take pixels instead of scaled pixels, in place."""
    node = first_layer(network)
    module = layer(network, node)
    if isinstance(module, nn.Linear):
        scaled = nn.Linear(module.in_features, module.out_features, dtype=torch.float64)
        scaled.weight = nn.Parameter(module.weight * SCALE)
        scaled.bias = nn.Parameter(bias_of(module) + module.weight.sum(dim=1) * SHIFT)
        network.add_submodule("scaled_first_layer", scaled)
        node.target = "scaled_first_layer"
        return
    (images,) = network.graph.find_nodes(op="placeholder")
    with network.graph.inserting_after(images):
        product = network.graph.call_function(torch.mul, (images, SCALE))
    with network.graph.inserting_after(product):
        x = network.graph.call_function(torch.add, (product, SHIFT))
    images.replace_all_uses_with(x, delete_user_cb=lambda user: user is not product)


def bias_of(linear: nn.Linear) -> Tensor:
    """Return the layer's bias (out,), zeros if it has none."""
    bias: Tensor | None = linear.bias
    return linear.weight.new_zeros(linear.out_features) if bias is None else bias
