"""The datatypes of the Open Inference Protocol, and the tensors that a model file declares.

Source: https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#tensor-data-types
"""

from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

Packed = bytearray | array | np.ndarray
Arrays = dict[str, np.ndarray]


class Datatype(NamedTuple):
    """A datatype of the protocol.

    element: the type of a number in JSON. pack: returns a list of numbers as the bytes of an array
    of `dtype`, or raises OverflowError, TypeError or ValueError if they do not fit.
    """

    name: str
    dtype: np.dtype
    element: type
    pack: Callable[[list[Any]], Packed]


def _floats(dtype: type, values: list[float]) -> np.ndarray:
    with np.errstate(over="ignore"):
        array: np.ndarray = np.array(values, np.float64).astype(dtype)
    if not np.isfinite(array).all():  # JSON has neither NaN nor infinity
        raise OverflowError("a number is too large")
    return array


# By ONNX Runtime's name. bytearray is several times as fast as an array.
DATATYPES = {
    "tensor(bool)": Datatype("BOOL", np.dtype(np.bool_), bool, bytearray),
    "tensor(uint8)": Datatype("UINT8", np.dtype(np.uint8), int, bytearray),
    "tensor(uint16)": Datatype("UINT16", np.dtype(np.uint16), int, partial(array, "H")),
    "tensor(uint32)": Datatype("UINT32", np.dtype(np.uint32), int, partial(array, "I")),
    "tensor(uint64)": Datatype("UINT64", np.dtype(np.uint64), int, partial(array, "Q")),
    "tensor(int8)": Datatype("INT8", np.dtype(np.int8), int, partial(array, "b")),
    "tensor(int16)": Datatype("INT16", np.dtype(np.int16), int, partial(array, "h")),
    "tensor(int32)": Datatype("INT32", np.dtype(np.int32), int, partial(array, "i")),
    "tensor(int64)": Datatype("INT64", np.dtype(np.int64), int, partial(array, "q")),
    "tensor(float16)": Datatype("FP16", np.dtype(np.float16), float, partial(_floats, np.float16)),
    "tensor(float)": Datatype("FP32", np.dtype(np.float32), float, partial(_floats, np.float32)),
    "tensor(double)": Datatype("FP64", np.dtype(np.float64), float, partial(_floats, np.float64)),
}


class Tensor(NamedTuple):
    """An input or output as the model file declares it; a size of -1 is any size."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def fits(self, shape: Sequence[int]) -> bool:
        """Return whether an array of this shape may be the tensor."""
        if len(shape) != len(self.shape):
            return False
        sizes = zip(shape, self.shape, strict=True)
        return all(size >= 0 and declared in (size, -1) for size, declared in sizes)

    def describe(self) -> dict[str, Any]:
        """Return it as in the protocol's model metadata."""
        return {"name": self.name, "datatype": self.datatype.name, "shape": list(self.shape)}


def read_tensor(node: ort.NodeArg) -> Tensor:
    """Return an input or output of an ONNX Runtime session.

    Raises:
        ValueError: the protocol has no such datatype.
    """
    if node.type not in DATATYPES:
        names = ", ".join(datatype.name for datatype in DATATYPES.values())
        raise ValueError(f"{node.name} is a {node.type}, this server carries {names}")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Tensor(node.name, DATATYPES[node.type], shape)
