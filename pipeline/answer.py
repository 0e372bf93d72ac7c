"""Checks that an answer, from a running server or saved, is the model's own."""

import os
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort

TOLERANCE = 1e-4  # another batch or machine rounds otherwise
MODEL_URL = "/v2/models/batchnorm_mlp"


def connect(url: str) -> httpx.Client:
    """Return a client of a server, which may want SERVE_TOKEN."""
    token = os.environ.get("SERVE_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)


def served_version(url: str) -> str:
    """Return the beginning of the SHA-256 that the server says its model file has.

    Raises:
        ValueError: it says nothing of the kind.
    """
    with connect(url) as client:
        response = client.get(MODEL_URL)
        response.raise_for_status()
    try:
        return str(response.json()["versions"][0])
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{url}{MODEL_URL} names no version: {response.text:.100}") from error


def check_server(url: str, model: bytes) -> str:
    """Ask the server for the model's self-test and return what was found in a sentence.

    Raises:
        ValueError: it answers otherwise than the model does.
    """
    greys = np.array([0, 128, 255], np.uint8).repeat(784).reshape(-1, 28, 28)
    tensor = {"name": "images", "datatype": "UINT8", "shape": greys.shape}
    request = {"inputs": [tensor | {"data": greys.ravel().tolist()}]}
    with connect(url) as client:
        response = client.post(f"{MODEL_URL}/infer", json=request)
        response.raise_for_status()
    return check_response(response.json(), request, model)


def check_response(response: dict[str, Any], request: dict[str, Any], model: bytes) -> str:
    """Answer the request with the model and return what was found in a sentence.

    Raises:
        ValueError: the response is another one.
    """
    (tensor,) = request["inputs"]
    images = np.array(tensor["data"], np.uint8).reshape(tensor["shape"])
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    if not response["outputs"]:
        raise ValueError("it holds no outputs")
    for output in response["outputs"]:
        (expected,) = session.run([output["name"]], {"images": images})
        given = np.array(output["data"], np.float64).reshape(output["shape"])
        if given.shape != expected.shape:
            raise ValueError(f"its {output['name']} have shape {given.shape}, not {expected.shape}")
        difference = np.abs(given - expected).max()
        if not difference <= TOLERANCE:
            raise ValueError(f"its {output['name']} differ from the model's by {difference:.2g}")
    return f"the model gives the same answer to {len(images)} images"
