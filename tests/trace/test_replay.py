import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest

from pipeline.trace import replay
from pipeline.trace.replay import check_response, served_version


@pytest.fixture
def content(model: Path) -> bytes:
    return model.read_bytes()


def request_for(images: int) -> dict[str, Any]:
    data = np.arange(images * 784, dtype=np.uint8).tolist()
    return {"inputs": [{"name": "images", "shape": [images, 28, 28], "data": data}]}


def response_to(request: dict[str, Any], model: bytes) -> dict[str, Any]:
    """Return what the model answers."""
    (tensor,) = request["inputs"]
    images = np.array(tensor["data"], np.uint8).reshape(tensor["shape"])
    (logits,) = ort.InferenceSession(model).run(["logits"], {"images": images})
    output = {"name": "logits", "shape": logits.shape, "data": logits.ravel().tolist()}
    return {"outputs": [output]}


def test_the_models_own_answer_passes(content: bytes) -> None:
    request = request_for(3)
    found = check_response(response_to(request, content), request, content)
    assert found == "the model gives the same answer to 3 images"


def test_another_answer_than_the_models_is_an_error(content: bytes) -> None:
    request = request_for(1)
    response = response_to(request, content)
    response["outputs"][0]["data"][0] += 0.01
    with pytest.raises(ValueError, match=r"its logits differ from the model's by 0\.01"):
        check_response(response, request, content)


def test_an_answer_without_outputs_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="it has no outputs"):
        check_response({"outputs": []}, request_for(1), content)


def test_one_answer_to_two_equal_images_is_an_error(content: bytes) -> None:
    request = request_for(1)
    response = response_to(request, content)
    (tensor,) = request["inputs"]
    twice = {"inputs": [tensor | {"shape": [2, 28, 28], "data": 2 * tensor["data"]}]}
    with pytest.raises(ValueError, match=r"its logits have shape \(1, 10\), not \(2, 10\)"):
        check_response(response, twice, content)


@pytest.mark.parametrize("shape", [(28, 28), (3, 32, 32)])
def test_evenly_grey_images_of_the_data_sets_shape_are_sent(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    sent = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={})

    client = httpx.Client(base_url="http://test", transport=httpx.MockTransport(respond))
    monkeypatch.setattr(replay, "connect", lambda _url: client)
    monkeypatch.setattr(replay, "check_response", lambda *_: "")
    monkeypatch.setattr(replay, "IMAGE_SHAPE", shape)
    replay.check_server("http://test", b"")
    (tensor,) = sent[0]["inputs"]
    images = np.reshape(tensor["data"], tensor["shape"])
    assert images.shape == (3, *shape)
    assert [set(image.ravel()) for image in images] == [{0}, {128}, {255}]


@pytest.mark.parametrize("body", [{}, [], None, {"versions": []}, {"versions": 5}])
def test_a_server_that_names_no_version_is_an_error(
    body: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(url: str) -> httpx.Client:
        reply = httpx.MockTransport(lambda _request: httpx.Response(200, text=json.dumps(body)))
        return httpx.Client(base_url=url, transport=reply)

    monkeypatch.setattr(replay, "connect", connect)
    with pytest.raises(ValueError, match="names no version"):
        served_version("http://127.0.0.1:9")
