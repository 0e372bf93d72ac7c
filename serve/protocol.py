"""The Open Inference Protocol: decodes requests to arrays and encodes arrays to responses.

Tensors are JSON or, by Triton's binary tensor data extension, raw bytes after the JSON.

Source: Open Inference Protocol, REST,
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
    """Encoding of the input."""

    binary_data_size: Annotated[
        int | None, Meta(description="bytes of raw data after the JSON")
    ] = None


class RequestParameters(Struct, frozen=True):
    """Encoding of the response."""

    binary_data_output: Annotated[bool, Meta(description="return all outputs as raw bytes")] = False


class OutputParameters(Struct, frozen=True):
    """Encoding of an output."""

    binary_data: Annotated[
        bool | None, Meta(description="return raw bytes; the default is binary_data_output")
    ] = None


class InputTensor(Struct):
    """Images of 28 × 28 pixels."""

    name: Annotated[str, Meta(extra_json_schema={"const": "images"})]
    datatype: Annotated[str, Meta(extra_json_schema={"const": "UINT8"})]
    shape: Annotated[
        list[int],
        Meta(description=f"[N, 28, 28] with N from 1 to {MAX_IMAGES}", examples=[[1, 28, 28]]),
    ]
    data: Annotated[
        list[int | list[list[int]]] | UnsetType,
        Meta(
            description="N × 784 integers, 0 (background) to 255 (ink), flat or nested",
            examples=[[0] * PIXELS],
        ),
    ] = UNSET
    parameters: InputParameters = InputParameters()


class RequestedOutput(Struct):
    """An output to return."""

    name: Annotated[str, Meta(extra_json_schema={"enum": list(OUTPUT_NAMES)})]
    parameters: OutputParameters = OutputParameters()


class InferenceRequest(Struct):
    """An inference request of the Open Inference Protocol."""

    inputs: Annotated[list[InputTensor], Meta(min_length=1, max_length=1)]
    outputs: Annotated[list[RequestedOutput], Meta(max_length=2, description="both if empty")] = []
    id: Annotated[str | None, Meta(description="echoed in the response")] = None
    parameters: RequestParameters = RequestParameters()


class RawSize(Struct):
    """Size of a raw output."""

    binary_data_size: Annotated[int, Meta(description="bytes of raw data after the JSON")]


class OutputTensor(Struct, omit_defaults=True):
    """Ten numbers per image."""

    name: str
    shape: Annotated[tuple[int, ...], Meta(examples=[[1, 10]])]
    datatype: str
    data: Annotated[list[float] | UnsetType, Meta(description="N × 10 numbers, flat")] = UNSET
    parameters: RawSize | UnsetType = UNSET


class InferenceResponse(Struct, omit_defaults=True):
    """An inference response of the Open Inference Protocol."""

    model_name: str
    model_version: Annotated[str, Meta(description="first 12 digits of the model file's SHA-256")]
    outputs: list[OutputTensor]
    id: str | None = None


class Error(Struct):
    """Why the request failed."""

    error: str


class RequestError(ValueError):
    """Raised for an invalid request, with a message for the client."""


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(InferenceRequest).decode


def model_metadata(name: str, version: str, metadata: dict[str, str]) -> dict[str, Any]:
    """Return the response of GET /v2/models/{name}."""
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
    """Decode an inference request.

    json_length: bytes of JSON, which raw tensors follow; None if the body is all JSON.

    Returns:
        The request, and its images (N, 28, 28) uint8 with N from 1 to MAX_IMAGES.

    Raises:
        RequestError: the body is not JSON, or not a valid request for this model.
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
            raise RequestError(f"no output {output.name!r}: request logits or probabilities")
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
    if size is None and raw:
        raise RequestError(f"{len(raw)} bytes follow the JSON, but images has no binary_data_size")
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
        raise RequestError("images must have data or binary_data_size")
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
    """Encode the requested outputs.

    Returns:
        The body, and the length in bytes of its JSON if raw tensors follow, else None.
    """
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
