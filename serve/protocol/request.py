"""A request for one model, decoded."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from msgspec import Struct

from serve.protocol.tensors import Arrays


class Wanted(NamedTuple):
    """How to return an output; classes: how many of the highest values, or 0 for all numbers."""

    name: str
    binary: bool
    classes: int = 0


class Request(Struct, frozen=True, gc=False):
    """A decoded request: an array per input, of `rows` rows if the model has a batch axis.

    batch_key: requests with equal keys can run as one batch; None runs alone. drift: whether its
    rows count for drift. sample: whether they may be sampled.
    """

    inputs: Arrays
    rows: int
    outputs: Sequence[Wanted]
    batch_key: Hashable | None
    drift: bool = True
    sample: bool = True
    id: str | None = None
