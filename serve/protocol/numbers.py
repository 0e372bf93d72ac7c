"""Turns the numbers of one input, from JSON or raw bytes, into an array."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from serve.protocol.tensors import Packed, Tensor


class RequestError(ValueError):
    """Raised for an invalid request, with a message for the client."""


def check_size(tensor: Tensor, shape: Sequence[int], count: int, size: int) -> None:
    """Raise RequestError unless `count` numbers of the tensor have `size` bytes."""
    itemsize = tensor.datatype.dtype.itemsize
    if size != count * itemsize:
        raise RequestError(
            f"{tensor.name} of shape {list(shape)} needs {count} numbers of {itemsize} bytes, "
            f"got {size} bytes"
        )


def pack(data: Any, tensor: Tensor, shape: Sequence[int], count: int) -> Packed:
    """Return the bytes of `count` numbers, which are flat or nested as the shape says.

    Raises:
        RequestError: they are nested otherwise, too few or too many, or do not fit the datatype.
    """
    if not isinstance(data, list):
        raise RequestError(f"{tensor.name} must have data or binary_data_size")
    if data and isinstance(data[0], list):
        for size in shape[1:]:
            if not all(isinstance(inner, list) and len(inner) == size for inner in data):
                raise RequestError(f"{tensor.name} must be flat, or nested as its shape says")
            data = list(chain.from_iterable(data))
    if len(data) != count:
        raise RequestError(
            f"{tensor.name} of shape {list(shape)} needs {count} numbers, got {len(data)}"
        )
    try:
        return tensor.datatype.pack(data)
    except (OverflowError, TypeError, ValueError) as error:
        raise RequestError(f"{tensor.name} must hold {tensor.datatype.name}: {error}") from error


def to_array(
    content: Packed | bytes, start: int, tensor: Tensor, shape: Sequence[int], count: int
) -> np.ndarray:
    """Return the array of `count` numbers that starts at that byte of the content.

    Raises:
        RequestError: no array can have the shape, or bytes of BOOL are neither 0 nor 1.
    """
    array = np.frombuffer(content, tensor.datatype.dtype, count, start)
    if tensor.datatype.element is bool and count and array.view(np.uint8).max() > 1:
        raise RequestError(f"{tensor.name} must hold bytes of 0 or 1")
    try:
        return array.reshape(shape)
    except ValueError as error:  # empty, with sizes beyond those of arrays
        raise RequestError(f"{tensor.name} cannot have shape {list(shape)}: {error}") from error
