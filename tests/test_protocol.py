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
        (body(inputs=[{"name": "images"}]), "must have datatype UINT8, got None"),
        (body(id=7), "id must be a string, got 7"),
        (body(name="pixels"), "must be named 'images', got 'pixels'"),
        (body(datatype="FP32"), "must have datatype UINT8, got 'FP32'"),
        (body(shape=[2, 784]), r"must have shape \[N, 28, 28\]"),
        (body(shape=[0, 28, 28], data=[]), "N from 1 to 1024"),
        (body(shape=[-1, 28, 28]), "N from 1 to 1024"),
        (body(shape=["2", 28, 28]), "N from 1 to 1024"),
        (body(shape=[3, 28, 28]), "needs 2352 numbers, got 1568"),
        (body(shape=[1025, 28, 28]), "N from 1 to 1024"),
        (body(data=7), "data must be a list of numbers, got int"),
        (body(data=[[[7] * 28] * 28]), "needs 1568 numbers, got 784"),
        (body(shape=[2, 28.0, 28]), "must have shape"),
        (body(data=[["a" * 28] * 28] * 2), "nested as shape says"),
        (body(outputs=False), "objects with a name"),
        (body(data=[[[0.5] * 28] * 28] * 2), "whole numbers from 0 to 255"),
        (body(parameters=7), "parameters must be an object"),
        (body(data=[[1, 2], [3]]), "nested as shape says"),
        (body(data=[256] * 1568), "whole numbers from 0 to 255"),
        (body(data=[-1] * 1568), "whole numbers from 0 to 255"),
        (body(data=[0.5] * 1568), "whole numbers from 0 to 255"),
        (body(data=[2**70] * 1568), "whole numbers from 0 to 255"),
        (body(data=["1"] * 1568), "whole numbers from 0 to 255"),
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
    content, json_length = encode_response("batchnorm_mlp", "abc", request, tensors)
    assert json_length is None
    response = orjson.loads(content)
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
    assert list(decode_request(body()).outputs) == ["logits", "probabilities"]


def raw_body(pixels: bytes, size: int | None = None, **more: Any) -> tuple[bytes, int]:
    """A request for one image whose bytes follow the JSON, and the JSON's length."""
    parameters = {"binary_data_size": len(pixels) if size is None else size}
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28]}
    head = json.dumps({"inputs": [tensor | {"parameters": parameters}]} | more).encode()
    return head + pixels, len(head)


def test_raw_bytes_are_the_images() -> None:
    pixels = bytes(range(256)) * 3 + bytes(16)
    assert decode_request(*raw_body(pixels)).images.tobytes() == pixels


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (raw_body(bytes(783)), "needs 784 numbers, got 783"),
        (raw_body(bytes(784), size=783), "has binary_data_size 783, but 784 bytes follow"),
        (raw_body(bytes(784), size=-1), "has binary_data_size -1"),
        ((b"{}", 3), "the JSON has 3 bytes, but the body 2"),
        ((raw_body(bytes(784))[0], 10), "not JSON"),
    ],
)
def test_raw_bytes_that_do_not_fit_say_why(broken: tuple[bytes, int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode_request(*broken)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"parameters": {"binary_data_output": True}}, {"logits": True, "probabilities": True}),
        (
            {"outputs": [{"name": "logits", "parameters": {"binary_data": True}}]},
            {"logits": True},
        ),
        (
            {
                "outputs": [{"name": "logits", "parameters": {"binary_data": False}}],
                "parameters": {"binary_data_output": True},
            },
            {"logits": False},
        ),
    ],
)
def test_outputs_come_as_bytes_where_that_is_asked_for(
    more: dict[str, Any], expected: dict[str, bool]
) -> None:
    assert decode_request(*raw_body(bytes(784), **more)).outputs == expected


def test_raw_outputs_follow_the_json_in_their_order() -> None:
    asked = {"outputs": [{"name": "probabilities"}, {"name": "logits"}]}
    request = decode_request(
        *raw_body(bytes(784), parameters={"binary_data_output": True}, **asked)
    )
    tensors = {
        name: np.full((1, 10), i, np.float32) for i, name in enumerate(("logits", "probabilities"))
    }
    content, json_length = encode_response("batchnorm_mlp", "abc", request, tensors)
    assert json_length is not None
    outputs = orjson.loads(content[:json_length])["outputs"]
    assert [output["parameters"] for output in outputs] == [{"binary_data_size": 40}] * 2
    values = np.frombuffer(content[json_length:], "<f4").reshape(2, 10)
    assert values.tolist() == [[1.0] * 10, [0.0] * 10]
