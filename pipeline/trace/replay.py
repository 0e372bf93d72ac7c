"""Replays requests: checks that an answer, from a running server or saved, is the model's own."""

import json
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline.core.inference import connect, json_request, model_url
from pipeline.data.dataset import IMAGE_SHAPE

TOLERANCE = 1e-4  # another batch size or machine rounds differently


def served_version(url: str) -> str:
    """Return the version that a server reports: the first digits of its model file's SHA-256.

    Raises:
        ValueError: it reports none.
    """
    with connect(url) as client:
        response = client.get(model_url())
        response.raise_for_status()
    try:
        return str(response.json()["versions"][0])
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{response.url} names no version: {response.text:.100}") from error


def check_server(url: str, model: bytes) -> str:
    """Send three evenly grey images to the server, and return what was found in a sentence.

    Raises:
        ValueError: its answer is not the model's.
    """
    greys = np.stack([np.full(IMAGE_SHAPE, grey, np.uint8) for grey in (0, 128, 255)])
    body, headers = json_request(greys)
    with connect(url) as client:
        response = client.post(f"{model_url()}/infer", content=body, headers=headers)
        response.raise_for_status()
    return check_response(response.json(), json.loads(body), model)


def check_response(response: dict[str, Any], request: dict[str, Any], model: bytes) -> str:
    """Run the model on the request, and return what was found in a sentence.

    Raises:
        ValueError: the response is not the model's.
    """
    (tensor,) = request["inputs"]
    images = np.array(tensor["data"], np.uint8).reshape(tensor["shape"])
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    if not response["outputs"]:
        raise ValueError("it has no outputs")
    for output in response["outputs"]:
        (expected,) = session.run([output["name"]], {"images": images})
        given = np.array(output["data"], np.float64).reshape(output["shape"])
        if given.shape != expected.shape:
            raise ValueError(f"its {output['name']} have shape {given.shape}, not {expected.shape}")
        difference = np.abs(given - expected).max()
        if not difference <= TOLERANCE:
            raise ValueError(f"its {output['name']} differ from the model's by {difference:.2g}")
    return f"the model gives the same answer to {len(images)} images"
