"""Requests logits from a server of the Open Inference Protocol, in JSON or as raw bytes.

Source: https://github.com/kserve/open-inference-protocol; raw bytes are Triton's extension "binary
tensor data".
"""

import os
from typing import NamedTuple

import httpx
import msgspec
import numpy as np

from pipeline.core.params import load_params

LENGTH = "Inference-Header-Content-Length"  # of the JSON in front of raw bytes


class Request(NamedTuple):
    """The body and headers of a POST request."""

    body: bytes
    headers: dict[str, str]


def connect(url: str) -> httpx.Client:
    """Return a client of a server, with the token SERVE_TOKEN if it is set."""
    token = os.environ.get("SERVE_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)


def model_url() -> str:
    """Return the path of the deployed model on a server."""
    return f"/v2/models/{load_params().export.network}"


def json_request(images: np.ndarray) -> Request:
    """Return a request in JSON, for all outputs in JSON; images: (N, *IMAGE_SHAPE) uint8."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape}
    body = {"inputs": [tensor | {"data": images.ravel().tolist()}]}
    return Request(msgspec.json.encode(body), {"Content-Type": "application/json"})


def binary_request(images: np.ndarray) -> Request:
    """Return a request in raw bytes, for outputs in raw bytes; images: (N, *IMAGE_SHAPE) uint8."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape}
    size = {"parameters": {"binary_data_size": images.nbytes}}
    body = {"inputs": [tensor | size], "parameters": {"binary_data_output": True}}
    head = msgspec.json.encode(body)
    headers = {"Content-Type": "application/octet-stream", LENGTH: str(len(head))}
    return Request(head + images.tobytes(), headers)


ENCODINGS = {"JSON": json_request, "binary": binary_request}


def infer(client: httpx.Client, model: str, request: Request) -> dict[str, np.ndarray]:
    """Send a request to a model, and return the outputs by name, float32.

    Raises:
        httpx.HTTPError: the server does not answer, or answers with an error.
    """
    response = client.post(
        f"/v2/models/{model}/infer", content=request.body, headers=request.headers
    )
    response.raise_for_status()
    content, outputs = response.content, {}
    start = int(response.headers.get(LENGTH, len(content)))
    for output in msgspec.json.decode(content[:start])["outputs"]:
        if "data" in output:
            values = np.array(output["data"], np.float32)
        else:
            end = start + output["parameters"]["binary_data_size"]
            values, start = np.frombuffer(content[start:end], "<f4"), end
        outputs[output["name"]] = values.reshape(output["shape"])
    return outputs
