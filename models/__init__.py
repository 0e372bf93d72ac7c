"""Every network of the pipeline, in one table that can be read without importing PyTorch."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import nn

    from models.mlp import BatchNormMLP, SimpleMLP

__all__ = ["NETWORKS", "BatchNormMLP", "SimpleMLP"]


class Network(NamedTuple):
    """One row of the table: where a network's class is, and how every figure draws it.

    The class takes no arguments. Its `forward` takes images (B, 28, 28) float32 in [-1, 1], or of
    another data set's shape, and returns logits (B, 10), one per class.
    """

    path: str  # module:class
    title: str
    color: str
    marker: str

    def build(self) -> "nn.Module":
        """Return a new network with its initial weights."""
        return resolve_name(self.path)()


# Source of the colors: Okabe and Ito, "Color Universal Design", 2008, which the color-blind can
# tell apart, https://jfly.uni-koeln.de/color. Not used yet: #009E73, #E69F00, #CC79A7, #56B4E9.
NETWORKS = {
    "simple_mlp": Network("models.mlp:SimpleMLP", "SimpleMLP", "#D55E00", "s"),
    "batchnorm_mlp": Network("models.mlp:BatchNormMLP", "BatchNormMLP", "#0072B2", "o"),
}


def __getattr__(name: str) -> Any:
    """Import a class of the table when it is first asked for: `from models import SimpleMLP`."""
    for network in NETWORKS.values():
        if network.path.endswith(f":{name}"):
            return resolve_name(network.path)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
