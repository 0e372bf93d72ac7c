"""The Open Inference Protocol's JSON: bytes ↔ arrays. Knows nothing of HTTP or ONNX.

Source: Open Inference Protocol, REST,
https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

VERSION = "0.1.0"
SERVER_METADATA = {"name": "mnist-batchnorm", "version": VERSION, "extensions": []}
INPUT = {"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}
OUTPUTS = [
    {"name": "logits", "datatype": "FP32", "shape": [-1, 10]},
    {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
]


class RequestError(ValueError):
    """A request that cannot be answered; its message is for whoever sent it."""


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """images: (N, 28, 28) uint8, N at least 1; outputs: the names to answer with, in order."""

    images: np.ndarray
    outputs: list[str]
    id: str | None


def model_metadata(name: str, version: str) -> dict[str, Any]:
    """Return what GET /v2/models/{name} answers."""
    return {
        "name": name,
        "versions": [version],
        "platform": "onnx_onnxv1",
        "inputs": [INPUT],
        "outputs": OUTPUTS,
    }


def decode_request(body: bytes) -> InferRequest:
    """Read an inference request.

    Raises:
        RequestError: it is not JSON, or not a request for this model's tensors.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    _expect(isinstance(request, dict), "the body must be a JSON object")
    identity = request.get("id")
    _expect(identity is None or isinstance(identity, str), f"id must be a string, got {identity!r}")
    inputs = request.get("inputs")
    _expect(
        isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict),
        "inputs must be a list of one tensor, named 'images'",
    )
    return InferRequest(
        images=_decode_images(inputs[0]), outputs=_decode_outputs(request), id=identity
    )


def encode_response(
    name: str, version: str, request: InferRequest, tensors: dict[str, np.ndarray]
) -> bytes:
    """Write an inference response with the outputs that were asked for, data flat."""
    response: dict[str, Any] = {"model_name": name, "model_version": version}
    if request.id is not None:
        response["id"] = request.id
    response["outputs"] = [
        {
            "name": output,
            "datatype": "FP32",
            "shape": tensors[output].shape,
            "data": tensors[output].ravel(),
        }
        for output in request.outputs
    ]
    return orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY)


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise RequestError(message)


def _decode_images(tensor: dict[str, Any]) -> np.ndarray:
    for field in ("name", "datatype", "shape", "data"):
        _expect(field in tensor, f"the input tensor has no {field}")
    name, datatype, shape = tensor["name"], tensor["datatype"], tensor["shape"]
    _expect(name == INPUT["name"], f"the input must be named 'images', got {name!r}")
    _expect(datatype == INPUT["datatype"], f"images must have datatype UINT8, got {datatype!r}")
    _expect(
        isinstance(shape, list) and len(shape) == 3 and shape[1:] == [28, 28]
        and type(shape[0]) is int and shape[0] >= 1,
        f"images must have shape [N, 28, 28] with N at least 1, got {shape!r}",
    )  # fmt: skip
    try:
        values = np.asarray(tensor["data"])
    except ValueError as error:
        raise RequestError("images has rows of different lengths in data") from error
    _expect(
        values.shape == tuple(shape) or values.shape == (shape[0] * 784,),
        f"images has shape {shape}, but data of shape {list(values.shape)}: "
        f"send {shape[0] * 784} numbers, flat or nested",
    )
    _expect(
        values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 255,
        "images must hold whole numbers from 0 to 255",
    )
    return values.astype(np.uint8).reshape(shape)


def _decode_outputs(request: dict[str, Any]) -> list[str]:
    known = [str(output["name"]) for output in OUTPUTS]
    wanted = request.get("outputs") or [{"name": name} for name in known]
    _expect(
        isinstance(wanted, list) and all(isinstance(output, dict) for output in wanted),
        "outputs must be a list of objects with a name",
    )
    names = [output.get("name") for output in wanted]
    for name in names:
        _expect(name in known, f"there is no output {name!r}: ask for {' or '.join(known)}")
    return names
