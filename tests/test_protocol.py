import json
from typing import Any

import numpy as np
import orjson
import pytest

from serve.protocol import RequestError, decode_request, encode_response


def body(**changes: Any) -> bytes:
    """A good request for two images, with some of its fields changed."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": [2, 28, 28], "data": [7] * 1568}
    tensor |= {name: value for name, value in changes.items() if name in tensor}
    request = {"inputs": [tensor]}
    request |= {name: value for name, value in changes.items() if name not in tensor}
    return json.dumps(request).encode()


def test_flat_and_nested_data_are_the_same_images() -> None:
    pixels = np.arange(1568).reshape(2, 28, 28) % 256
    flat = decode_request(body(data=pixels.ravel().tolist()))
    nested = decode_request(body(data=pixels.tolist()))
    assert np.array_equal(flat.images, pixels)
    assert np.array_equal(nested.images, pixels)
    assert flat.images.dtype == np.uint8


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "must be a JSON object"),
        (body(inputs=[]), "list of one tensor"),
        (body(inputs=[1]), "list of one tensor"),
        (body(inputs=[{"name": "images"}]), "has no datatype"),
        (body(id=7), "id must be a string, got 7"),
        (body(name="pixels"), "must be named 'images', got 'pixels'"),
        (body(datatype="FP32"), "must have datatype UINT8, got 'FP32'"),
        (body(shape=[2, 784]), r"must have shape \[N, 28, 28\]"),
        (body(shape=[0, 28, 28], data=[]), "N at least 1"),
        (body(shape=[-1, 28, 28]), "N at least 1"),
        (body(shape=["2", 28, 28]), "N at least 1"),
        (body(shape=[3, 28, 28]), "send 2352 numbers"),
        (body(data=7), "send 1568 numbers"),
        (body(data=[[1, 2], [3]]), "different lengths"),
        (body(data=[256] * 1568), "whole numbers from 0 to 255"),
        (body(data=[-1] * 1568), "whole numbers from 0 to 255"),
        (body(data=[0.5] * 1568), "whole numbers from 0 to 255"),
        (body(data=[2**70] * 1568), "whole numbers from 0 to 255"),
        (body(data=["1"] * 1568), "whole numbers from 0 to 255"),
        (body(data=[True] * 1568), "whole numbers from 0 to 255"),
        (body(data=[None] * 1568), "whole numbers from 0 to 255"),
        (body(outputs=[{"name": "labels"}]), "no output 'labels'"),
        (body(outputs=["logits"]), "objects with a name"),
        (body(outputs=7), "objects with a name"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(broken: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode_request(broken)


def test_a_response_echoes_the_id_and_holds_the_outputs_asked_for() -> None:
    request = decode_request(body(id="a-17", outputs=[{"name": "probabilities"}]))
    probabilities = np.full((2, 10), 0.1, np.float32)
    tensors = {"logits": probabilities, "probabilities": probabilities}
    response = orjson.loads(encode_response("batchnorm_mlp", "abc", request, tensors))
    assert response["id"] == "a-17"
    assert response["model_version"] == "abc"
    (output,) = response["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == (
        "probabilities",
        "FP32",
        [2, 10],
    )
    assert np.array_equal(np.array(output["data"], np.float32), probabilities.ravel())


def test_without_a_choice_both_outputs_are_given() -> None:
    assert decode_request(body()).outputs == ["logits", "probabilities"]
