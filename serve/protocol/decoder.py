"""Decodes the bodies of requests to arrays; encoder.py has the way back.

Tensors are JSON or, by Triton's binary tensor data extension, raw bytes after the JSON.

Source: Open Inference Protocol, REST,
https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
and https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, reduce
from operator import or_
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from serve.protocol.messages import (
    MAX_ROWS,
    InferenceRequest,
    InputFields,
    OutputParameters,
    RequestOptions,
    RequestParameters,
)
from serve.protocol.numbers import RequestError, check_size, pack, to_array
from serve.protocol.request import Request, Wanted
from serve.protocol.tensors import Arrays, Packed, Tensor

MAX_CACHED_BYTES = 1024  # of JSON before raw tensors
NO_SHARED_MEMORY = "shared memory is not supported: send and receive the numbers"


class Decoder:
    """Decodes the requests to one model.

    inputs, outputs: its tensors. batches: whether their first axis is the batch.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], batches: bool) -> None:
        self._inputs = inputs
        self._outputs = [tensor.name for tensor in outputs]
        self._batches = batches
        self._all = [Wanted(name, binary=False) for name in self._outputs]
        self._all_binary = [Wanted(name, binary=True) for name in self._outputs]
        self._tensors = {input_type(tensor): tensor for tensor in inputs}
        self._check = lru_cache(maxsize=256)(self._check_tensor)
        any_input: Any = reduce(or_, self._tensors, Nameless)
        request = msgspec.defstruct(
            "InferenceRequest", [("inputs", list[any_input])], bases=(RequestOptions,), kw_only=True
        )
        decode: Any = msgspec.json.Decoder(request).decode
        self._decode: Callable[[bytes], InferenceRequest] = decode
        self._decode_cached: Callable[[bytes], InferenceRequest] = lru_cache(maxsize=256)(decode)

    def decode(self, body: bytes, json_length: int | None = None) -> Request:
        """Decode an inference request.

        json_length: bytes of JSON, which raw tensors follow; None if the body is all JSON, 0 if it
            is the raw bytes of the only input.

        Raises:
            RequestError: the body is not JSON, or not a valid request for this model.
        """
        if json_length == 0:
            return self._decode_raw(body)
        end = len(body) if json_length is None else json_length
        if end > len(body):
            raise RequestError(f"the JSON has {end} bytes, but the body {len(body)}")
        try:
            # Before raw tensors, the JSON of requests without an id is often the same.
            small = json_length is not None and end <= MAX_CACHED_BYTES
            decode = self._decode_cached if small else self._decode
            message = decode(body[:end])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"the request cannot be read: {error}") from error
        inputs = {}
        content: Packed | bytes
        for part in message.inputs:
            tensor, count = self._check(type(part), part.datatype, part.shape)
            how = part.parameters
            if how and how.shared_memory_region is not None:
                raise RequestError(NO_SHARED_MEMORY)
            size = how.binary_data_size if how else None
            if size is None:
                content, start = pack(part.data, tensor, part.shape, count), 0
            elif part.data or not 0 <= size <= len(body) - end:
                raise RequestError(
                    f"{tensor.name} has binary_data_size {size}, but {len(body) - end} bytes follow"
                    f"{', and it has data too' if part.data else ''}"
                )
            else:
                check_size(tensor, part.shape, count, size)
                content, start = body, end
                end += size
            inputs[tensor.name] = to_array(content, start, tensor, part.shape, count)
        if end < len(body):
            raise RequestError(
                f"{len(body) - end} bytes follow that no input's binary_data_size counts"
            )
        options = message.parameters or RequestParameters()
        drift, sample = options.drift is not False, options.sample is not False
        rows = self._rows(inputs, len(message.inputs))
        key = self._batch_key(inputs, drift, sample)
        return Request(inputs, rows, self._wanted(message), key, drift, sample, message.id)

    def _decode_raw(self, body: bytes) -> Request:
        if len(self._inputs) != 1:
            raise RequestError(f"a raw request has one input, this model {len(self._inputs)}")
        (tensor,) = self._inputs
        shape = list(tensor.shape)
        if self._batches:
            shape[0] = 1
        if shape.count(-1) == 1:  # as long as the body makes it
            row = math.prod(size for size in shape if size != -1) * tensor.datatype.dtype.itemsize
            shape[shape.index(-1)] = len(body) // row if row else 0
        if -1 in shape:
            raise RequestError(f"a raw request does not tell the shape of {tensor.name}: send JSON")
        count = math.prod(shape)
        check_size(tensor, shape, count, len(body))
        inputs = {tensor.name: to_array(body, 0, tensor, shape, count)}
        rows, key = self._rows(inputs, 1), self._batch_key(inputs, drift=True, sample=True)
        return Request(inputs, rows, self._all_binary, key)

    def _check_tensor(
        self, json_type: type, datatype: str, shape: tuple[int, ...]
    ) -> tuple[Tensor, int]:
        """Return the input and how many numbers it has in that shape."""
        tensor = self._tensors.get(json_type)
        if not tensor:
            raise RequestError("an input has no name")
        if datatype != tensor.datatype.name:
            raise RequestError(
                f"{tensor.name} must have datatype {tensor.datatype.name}, got {datatype!r}"
            )
        if not tensor.fits(shape):
            raise RequestError(
                f"{tensor.name} must have shape {list(tensor.shape)}, where -1 is any size, "
                f"got {list(shape)}"
            )
        return tensor, math.prod(shape)

    def _rows(self, inputs: Arrays, given: int) -> int:
        if len(inputs) < len(self._inputs) or given > len(inputs):
            names = [tensor.name for tensor in self._inputs]
            raise RequestError(f"the inputs must be {names}, each once, got {given}: {[*inputs]}")
        if not self._batches:
            return 1
        rows = len(next(iter(inputs.values())))
        same = given == 1 or all(len(array) == rows for array in inputs.values())
        if not same or not 1 <= rows <= MAX_ROWS:
            counts = {name: len(array) for name, array in inputs.items()}
            raise RequestError(f"all inputs must have the same 1 to {MAX_ROWS} rows, got {counts}")
        return rows

    def _batch_key(self, inputs: Arrays, drift: bool, sample: bool) -> Hashable | None:
        if not self._batches:
            return None
        return drift, sample, *(inputs[tensor.name].shape[1:] for tensor in self._inputs)

    def _wanted(self, message: RequestOptions) -> Sequence[Wanted]:
        options = message.parameters
        binary = bool(options and options.binary_data_output)
        if not message.outputs:
            return self._all_binary if binary else self._all
        wanted = []
        for output in message.outputs:
            if output.name not in self._outputs:
                raise RequestError(f"no output {output.name!r}: this model has {self._outputs}")
            how = output.parameters or OutputParameters()
            if how.shared_memory_region is not None:
                raise RequestError(NO_SHARED_MEMORY)
            own = binary if how.binary_data is None else how.binary_data
            wanted.append(Wanted(output.name, own, how.classification or 0))
        if len({output.name for output in wanted}) < len(wanted):
            raise RequestError("an output is requested more than once")
        return wanted


class Nameless(InputFields, tag_field="name", tag=""):
    """An input without a name. msgspec requires the name only where there are several types."""


def input_type(tensor: Tensor) -> type[msgspec.Struct]:
    """Return the type of an input in JSON, which its name distinguishes from the others."""
    nested: Any = tensor.datatype.element
    for _ in tensor.shape[1:]:
        nested = list[nested]
    element: Any = nested if len(tensor.shape) < 2 else tensor.datatype.element | nested
    data = ("data", list[element] | UnsetType | None, UNSET)
    bases, name = (InputFields,), tensor.name
    return msgspec.defstruct("InputTensor", [data], bases=bases, tag_field="name", tag=name)
