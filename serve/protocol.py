"""The Open Inference Protocol: bytes ↔ arrays. Knows nothing of HTTP servers or ONNX.

Tensors come and go as JSON or, as Triton's binary tensor data extension has it, as raw bytes behind
the JSON. Sources: Open Inference Protocol, REST,
https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
and https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson

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


class RequestError(ValueError):
    """A request that cannot be answered; its message is for whoever sent it."""


class InferRequest(NamedTuple):
    """images: (N, 28, 28) uint8, 1 to MAX_IMAGES of them; outputs: name → whether as raw bytes."""

    id: str | None
    images: np.ndarray
    outputs: dict[str, bool]


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


def decode_request(body: bytes, json_length: int | None = None) -> InferRequest:
    """Read an inference request: `json_length` bytes of JSON, or all, then raw tensors.

    Raises:
        RequestError: it is not JSON, or not a request for this model's tensors.
    """
    end = len(body) if json_length is None else json_length
    if end > len(body):
        raise RequestError(f"the JSON has {end} bytes, but the body {len(body)}")
    try:
        request = orjson.loads(memoryview(body)[:end])
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the request is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise RequestError("the request must be a JSON object")
    identity = request.get("id")
    if not (identity is None or isinstance(identity, str)):
        raise RequestError(f"id must be a string, got {identity!r}")
    inputs = request.get("inputs")
    if not (isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)):
        raise RequestError("inputs must be a list of one tensor, named 'images'")
    return InferRequest(identity, _decode_images(inputs[0], body[end:]), _decode_outputs(request))


def encode_response(
    name: str, version: str, request: InferRequest, tensors: dict[str, np.ndarray]
) -> tuple[bytes, int | None]:
    """Return the body with the outputs that were asked for, and the length of its JSON if raw
    tensors follow it."""
    response: dict[str, Any] = {"model_name": name, "model_version": version}
    if request.id is not None:
        response["id"] = request.id
    outputs, raw = [], []
    for output, as_bytes in request.outputs.items():
        values = tensors[output]
        tensor: dict[str, Any] = {"name": output, "datatype": "FP32", "shape": values.shape}
        if as_bytes:
            tensor["parameters"] = {"binary_data_size": values.nbytes}
            raw.append(values.astype("<f4", copy=False).tobytes())
        else:
            tensor["data"] = values.ravel()
        outputs.append(tensor)
    response["outputs"] = outputs
    head = orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY)
    return (head + b"".join(raw), len(head)) if raw else (head, None)


def _decode_images(tensor: dict[str, Any], raw: bytes) -> np.ndarray:
    name, datatype = tensor.get("name"), tensor.get("datatype")
    if name != INPUT["name"]:
        raise RequestError(f"the input must be named 'images', got {name!r}")
    if datatype != INPUT["datatype"]:
        raise RequestError(f"images must have datatype UINT8, got {datatype!r}")
    shape = _decode_shape(tensor.get("shape"))
    count = shape[0] * PIXELS
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        raw = _decode_data(tensor.get("data"), shape)
    elif type(size) is not int or size != len(raw) or "data" in tensor:
        raise RequestError(
            f"images has binary_data_size {size!r}, but {len(raw)} bytes follow the JSON"
        )
    if len(raw) != count:
        raise RequestError(f"images of shape {shape} needs {count} numbers, got {len(raw)}")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _decode_shape(shape: Any) -> list[int]:
    if (
        isinstance(shape, list)
        and len(shape) == 3
        and all(type(size) is int for size in shape)
        and 1 <= shape[0] <= MAX_IMAGES
        and shape[1] == shape[2] == 28
    ):
        return shape
    raise RequestError(
        f"images must have shape [N, 28, 28] with N from 1 to {MAX_IMAGES}, got {shape!r}"
    )


def _decode_data(data: Any, shape: list[int]) -> bytes:
    if not isinstance(data, list):
        raise RequestError(f"data must be a list of numbers, got {type(data).__name__}")
    if data and isinstance(data[0], list):
        data = _flatten(_flatten(data, shape[1]), shape[2])
    try:
        return bytes(data)
    except (TypeError, ValueError) as error:
        raise RequestError("images must hold whole numbers from 0 to 255") from error


def _flatten(lists: list[Any], size: int) -> list[Any]:
    if all(isinstance(inner, list) and len(inner) == size for inner in lists):
        return list(chain.from_iterable(lists))
    raise RequestError("data must be flat, or nested as shape says")


def _decode_outputs(request: dict[str, Any]) -> dict[str, bool]:
    all_as_bytes = _parameters(request).get("binary_data_output") is True
    wanted = request.get("outputs")
    if wanted is None or wanted == []:
        return dict.fromkeys(OUTPUT_NAMES, all_as_bytes)
    if not (isinstance(wanted, list) and all(isinstance(output, dict) for output in wanted)):
        raise RequestError("outputs must be a list of objects with a name")
    outputs = {}
    for output in wanted:
        name = output.get("name")
        if name not in OUTPUT_NAMES:
            raise RequestError(f"there is no output {name!r}: ask for logits or probabilities")
        outputs[name] = _parameters(output).get("binary_data", all_as_bytes) is True
    return outputs


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError(f"parameters must be an object, got {parameters!r}")
    return parameters
