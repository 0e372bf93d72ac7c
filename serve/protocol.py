"""The Open Inference Protocol: bytes ↔ arrays. Knows nothing of HTTP servers or ONNX.

Tensors come and go as JSON or, as Triton's binary tensor data extension has it, as raw bytes behind
the JSON. Sources: Open Inference Protocol, REST,
https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
and https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType

VERSION = "0.1.0"
SERVER_METADATA = {
    "name": "mnist-batchnorm",
    "version": VERSION,
    "extensions": ["binary_tensor_data"],
}
INPUT = {"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}
OUTPUTS = [
    {"name": "logits", "datatype": "FP32", "shape": [-1, 10]},
    {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
]
OUTPUT_NAMES = ("logits", "probabilities")
PIXELS = 28 * 28
MAX_IMAGES = 1024  # in one request


class InputParameters(Struct, frozen=True):
    """How the input is given."""

    binary_data_size: Annotated[
        int | None, Meta(description="so many raw bytes follow the JSON, instead of data")
    ] = None


class RequestParameters(Struct, frozen=True):
    """How to answer."""

    binary_data_output: Annotated[bool, Meta(description="all outputs as raw bytes")] = False


class OutputParameters(Struct, frozen=True):
    """How to give an output."""

    binary_data: Annotated[
        bool | None, Meta(description="as raw bytes behind the JSON; as the request if not given")
    ] = None


class InputTensor(Struct):
    """Images, each 28 × 28 bytes."""

    name: Annotated[str, Meta(extra_json_schema={"const": "images"})]
    datatype: Annotated[str, Meta(extra_json_schema={"const": "UINT8"})]
    shape: Annotated[
        list[int],
        Meta(description=f"[N, 28, 28] with N from 1 to {MAX_IMAGES}", examples=[[1, 28, 28]]),
    ]
    data: Annotated[
        list | UnsetType,
        Meta(
            description="N × 784 whole numbers, 0 (background) to 255 (ink), flat or nested",
            examples=[[0] * PIXELS],
        ),
    ] = UNSET
    parameters: InputParameters = InputParameters()


class RequestedOutput(Struct):
    """An output to answer with."""

    name: Annotated[str, Meta(extra_json_schema={"enum": list(OUTPUT_NAMES)})]
    parameters: OutputParameters = OutputParameters()


class InferenceRequest(Struct):
    """A request of the Open Inference Protocol."""

    inputs: Annotated[list[InputTensor], Meta(min_length=1, max_length=1)]
    outputs: Annotated[list[RequestedOutput], Meta(max_length=2, description="both if empty")] = []
    id: Annotated[str | None, Meta(description="comes back in the answer")] = None
    parameters: RequestParameters = RequestParameters()


class RawSize(Struct):
    """Where an output's numbers are."""

    binary_data_size: Annotated[int, Meta(description="so many raw bytes behind the JSON")]


class OutputTensor(Struct, omit_defaults=True):
    """Ten numbers an image."""

    name: str
    shape: Annotated[tuple[int, ...], Meta(examples=[[1, 10]])]
    datatype: str
    data: Annotated[list[float] | UnsetType, Meta(description="N × 10 numbers, flat")] = UNSET
    parameters: RawSize | UnsetType = UNSET


class InferenceResponse(Struct, omit_defaults=True):
    """An answer of the Open Inference Protocol."""

    model_name: str
    model_version: Annotated[str, Meta(description="the beginning of the model file's SHA-256")]
    outputs: list[OutputTensor]
    id: str | None = None


class Error(Struct):
    """Why there is no answer."""

    error: str


class RequestError(ValueError):
    """A request that cannot be answered; its message is for whoever sent it."""


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(InferenceRequest).decode


def model_metadata(name: str, version: str, metadata: dict[str, str]) -> dict[str, Any]:
    """Return what GET /v2/models/{name} answers."""
    return {
        "name": name,
        "versions": [version],
        "platform": "onnxruntime_onnx",
        "inputs": [INPUT],
        "outputs": OUTPUTS,
        "parameters": {"test_accuracy": metadata["test_accuracy"]},
    }


def decode_request(
    body: bytes, json_length: int | None = None
) -> tuple[InferenceRequest, np.ndarray]:
    """Read an inference request: `json_length` bytes of JSON, or all, then raw tensors.

    Returns:
        The request, and its images (N, 28, 28) uint8, 1 to MAX_IMAGES of them.

    Raises:
        RequestError: it is not JSON, or not a request for this model's tensors.
    """
    end = len(body) if json_length is None else json_length
    if end > len(body):
        raise RequestError(f"the JSON has {end} bytes, but the body {len(body)}")
    try:
        request = _decode(body[:end])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the request cannot be read: {error}") from error
    for output in request.outputs:
        if output.name not in OUTPUT_NAMES:
            raise RequestError(
                f"there is no output {output.name!r}: ask for logits or probabilities"
            )
    return request, _decode_images(request.inputs[0], memoryview(body)[end:])


def _decode_images(tensor: InputTensor, raw: memoryview) -> np.ndarray:
    if tensor.name != "images":
        raise RequestError(f"the input must be named 'images', got {tensor.name!r}")
    if tensor.datatype != "UINT8":
        raise RequestError(f"images must have datatype UINT8, got {tensor.datatype!r}")
    count, *image = tensor.shape or [0]
    if image != [28, 28] or not 1 <= count <= MAX_IMAGES:
        raise RequestError(
            f"images must have shape [N, 28, 28] with N from 1 to {MAX_IMAGES}, got {tensor.shape}"
        )
    size = tensor.parameters.binary_data_size
    if size is None:
        pixels: memoryview | bytearray = _decode_data(tensor.data)
    elif size != len(raw) or tensor.data is not UNSET:
        raise RequestError(f"images has binary_data_size {size}, but {len(raw)} bytes follow")
    else:
        pixels = raw
    if len(pixels) != count * PIXELS:
        raise RequestError(
            f"images of shape {tensor.shape} needs {count * PIXELS} numbers, got {len(pixels)}"
        )
    return np.frombuffer(pixels, np.uint8).reshape(count, 28, 28)


def _decode_data(data: list | UnsetType) -> bytearray:
    if data is UNSET:
        raise RequestError("images must have data, or binary_data_size")
    if data and isinstance(data[0], list):
        data = _flatten(_flatten(data))
    try:
        return bytearray(data)  # much faster than bytes
    except (TypeError, ValueError) as error:
        raise RequestError("images must hold whole numbers from 0 to 255") from error


def _flatten(lists: list[Any]) -> list[Any]:
    if all(isinstance(inner, list) and len(inner) == 28 for inner in lists):
        return list(chain.from_iterable(lists))
    raise RequestError("data must be flat, or nested as shape says")


def encode_response(
    name: str, version: str, request: InferenceRequest, tensors: dict[str, np.ndarray]
) -> tuple[bytes, int | None]:
    """Return the body with the outputs that were asked for, and the length of its JSON if raw
    tensors follow it."""
    all_as_bytes = request.parameters.binary_data_output
    if request.outputs:
        wanted = [(output.name, output.parameters.binary_data) for output in request.outputs]
    else:
        wanted = [(name, None) for name in OUTPUT_NAMES]
    outputs, raw = [], []
    for output, as_bytes in wanted:
        values = tensors[output]
        tensor = OutputTensor(output, values.shape, "FP32")
        if all_as_bytes if as_bytes is None else as_bytes:
            tensor.parameters = RawSize(values.nbytes)
            raw.append(values.tobytes())
        else:
            tensor.data = values.ravel().tolist()
        outputs.append(tensor)
    head = encode(InferenceResponse(name, version, outputs, request.id))
    return (head + b"".join(raw), len(head)) if raw else (head, None)
