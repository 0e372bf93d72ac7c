import json
from typing import Any

import numpy as np
import pytest

from serve.protocol.decoder import Decoder
from serve.protocol.encoder import Encoder
from serve.protocol.numbers import RequestError
from serve.protocol.tensors import DATATYPES, Tensor

INPUTS = [Tensor("images", DATATYPES["tensor(uint8)"], (-1, 28, 28))]
OUTPUTS = [
    Tensor(name, DATATYPES["tensor(float)"], (-1, 10)) for name in ("logits", "probabilities")
]
DECODER = Decoder(INPUTS, OUTPUTS, batches=True)
ENCODER = Encoder(OUTPUTS, batches=True, labels={})
IMAGES = {"name": "images", "datatype": "UINT8", "shape": [2, 28, 28], "data": [7] * 1568}


def body(**changes: Any) -> bytes:
    """A valid request for two images, with some of its fields changed."""
    tensor = IMAGES | {name: value for name, value in changes.items() if name in IMAGES}
    request: dict[str, Any] = {"inputs": [tensor]}
    request |= {name: value for name, value in changes.items() if name not in IMAGES}
    return json.dumps(request).encode()


def test_flat_and_nested_data_are_the_same_images() -> None:
    pixels = np.arange(1568).reshape(2, 28, 28) % 256
    flat = DECODER.decode(body(data=pixels.ravel().tolist())).inputs["images"]
    nested = DECODER.decode(body(data=pixels.tolist())).inputs["images"]
    assert np.array_equal(flat, pixels)
    assert np.array_equal(nested, pixels)
    assert flat.dtype == np.uint8


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"{", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "Expected `object`, got `array`"),
        (body(inputs=[]), r"must be \['images'\], each once, got 0"),
        (json.dumps({"inputs": [IMAGES, IMAGES]}).encode(), "each once, got 2: .'images'.$"),
        (body(inputs=[1]), "Expected `object`, got `int` - at `\\$.inputs"),
        (body(inputs=[{"name": "images"}]), "missing required field `datatype`"),
        (body(inputs=[{"datatype": "UINT8"}]), "missing required field `name`"),
        (body(id=7), "Expected `str . null`, got `int` - at `\\$.id`"),
        (body(name="pixels"), "Invalid value 'pixels' - at `\\$.inputs.*name"),
        (body(datatype="FP32"), "must have datatype UINT8, got 'FP32'"),
        (body(shape=[2, 784]), r"must have shape \[-1, 28, 28\].* got \[2, 784\]"),
        (body(shape=[0, 28, 28], data=[]), "1 to 1024 rows, got {'images': 0}"),
        (body(shape=[-1, 28, 28]), r"must have shape .* got \[-1, 28, 28\]"),
        (body(shape=["2", 28, 28]), "got `str` - at `\\$.inputs.*shape"),
        (body(shape=[3, 28, 28]), "needs 2352 numbers"),
        (body(shape=[1025, 28, 28]), "needs 803600 numbers"),
        (body(shape=[1025, 28, 28], data=[7] * 803600), "1 to 1024 rows, got {'images': 1025}"),
        (body(data=7), "Expected `array . null`, got `int` - at `\\$.inputs.*data"),
        (body(data=[[[7] * 28] * 28]), "needs 1568 numbers"),
        (body(shape=[2, 28.5, 28]), "got `float` - at `\\$.inputs.*shape"),
        (body(data=[["a" * 28] * 28] * 2), "Expected `.*data"),
        (body(outputs=False), "got `bool` - at `\\$.outputs"),
        (body(data=[[[0.5] * 28] * 28] * 2), "Expected `.*data"),
        (body(parameters=7), "got `int` - at `\\$.parameters"),
        (body(data=[[1, 2], [3]]), "Expected `.*data"),
        (body(data=[True] * 1568), "got `bool` - at `.*data"),
        (body(data=[[[True] * 28] * 28] * 2), "got `bool` - at `.*data"),
        (body(data=[[[1] * 27] * 28] * 2), "nested as its shape says"),
        (body(data=[256] * 1568), r"images must hold UINT8: .*range\(0, 256\)"),
        (body(data=[-1] * 1568), r"images must hold UINT8: .*range\(0, 256\)"),
        (body(data=[0.5] * 1568), "Expected `.*data"),
        (body(data=[2**70] * 1568), r"images must hold UINT8: .*range\(0, 256\)"),
        (b'{"inputs": [NaN]}', "malformed"),
        (body(data=["1"] * 1568), "Expected `.*data"),
        (body(data=[None] * 1568), "Expected `.*data"),
        (body(outputs=[{"name": "labels"}]), "no output 'labels'"),
        (body(outputs=["logits"]), "got `str` - at `\\$.outputs"),
        (body(outputs=7), "got `int` - at `\\$.outputs"),
        (body(outputs=[{"name": "logits"}] * 3), "requested more than once"),
    ],
)
def test_an_invalid_request_is_refused_with_the_reason(broken: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        DECODER.decode(broken)


def test_a_response_echoes_the_id_and_has_the_requested_outputs() -> None:
    request = DECODER.decode(body(id="a-17", outputs=[{"name": "probabilities"}]))
    probabilities = np.full((2, 10), 0.1, np.float32)
    tensors = {"logits": probabilities, "probabilities": probabilities}
    content, json_length = ENCODER.encode("batchnorm_mlp", "abc", request, tensors)
    assert json_length is None
    response = json.loads(content)
    assert response["id"] == "a-17"
    assert response["model_version"] == "abc"
    (output,) = response["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == (
        "probabilities",
        "FP32",
        [2, 10],
    )
    assert np.array_equal(np.array(output["data"], np.float32), probabilities.ravel())


def test_both_outputs_are_returned_by_default() -> None:
    tensors = {name: np.zeros((2, 10), np.float32) for name in ("logits", "probabilities")}
    content, _ = ENCODER.encode("batchnorm_mlp", "abc", DECODER.decode(body()), tensors)
    assert [output["name"] for output in json.loads(content)["outputs"]] == list(tensors)


def raw_body(pixels: bytes, size: int | None = None, **more: Any) -> tuple[bytes, int]:
    """A request for one image whose bytes follow the JSON, and the JSON's length."""
    parameters = {"binary_data_size": len(pixels) if size is None else size}
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28]}
    head = json.dumps({"inputs": [tensor | {"parameters": parameters}]} | more).encode()
    return head + pixels, len(head)


def test_raw_bytes_are_the_images() -> None:
    pixels = bytes(range(256)) * 3 + bytes(16)
    assert DECODER.decode(*raw_body(pixels)).inputs["images"].tobytes() == pixels


def test_requests_whose_json_has_been_read_before_stay_apart() -> None:
    for pixel in (b"a", b"b"):
        for name in ("first", "second", "first"):
            request = DECODER.decode(*raw_body(pixel * 784, id=name))
            assert (request.inputs["images"].tobytes(), request.id) == (pixel * 784, name)
        for drift in (False, True, False):
            parameters = {"drift": drift}
            assert DECODER.decode(*raw_body(pixel * 784, parameters=parameters)).drift is drift


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (raw_body(bytes(783)), "needs 784 numbers of 1 bytes"),
        (raw_body(bytes(784), size=783), "needs 784 numbers of 1 bytes"),
        (raw_body(bytes(785), size=784), "1 bytes follow that no input's binary_data_size counts"),
        (raw_body(bytes(784), size=785), "has binary_data_size 785, but 784 bytes follow"),
        (raw_body(bytes(784), size=-1), "has binary_data_size -1"),
        ((body() + b"stray", len(body())), "5 bytes follow that no input's"),
        ((b"{}", 3), "the JSON has 3 bytes, but the body 2"),
        ((raw_body(bytes(784))[0], 10), "truncated"),
    ],
)
def test_raw_bytes_of_the_wrong_length_are_refused_with_the_reason(
    broken: tuple[bytes, int], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        DECODER.decode(*broken)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"parameters": {"binary_data_output": True}}, {"logits": True, "probabilities": True}),
        ({"outputs": []}, {"logits": False, "probabilities": False}),
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
def test_outputs_are_raw_where_that_is_requested(
    more: dict[str, Any], expected: dict[str, bool]
) -> None:
    request = DECODER.decode(*raw_body(bytes(784), **more))
    tensors = {name: np.zeros((1, 10), np.float32) for name in ("logits", "probabilities")}
    content, json_length = ENCODER.encode("batchnorm_mlp", "abc", request, tensors)
    outputs = json.loads(content[:json_length])["outputs"]
    assert {output["name"]: "data" not in output for output in outputs} == expected


def test_raw_outputs_follow_the_json_in_their_order() -> None:
    requested = [{"name": "probabilities"}, {"name": "logits"}]
    request = DECODER.decode(
        *raw_body(bytes(784), parameters={"binary_data_output": True}, outputs=requested)
    )
    tensors = {
        name: np.full((1, 10), i, np.float32) for i, name in enumerate(("logits", "probabilities"))
    }
    content, json_length = ENCODER.encode("batchnorm_mlp", "abc", request, tensors)
    assert json_length is not None
    outputs = json.loads(content[:json_length])["outputs"]
    assert [output["parameters"] for output in outputs] == [{"binary_data_size": 40}] * 2
    values = np.frombuffer(content[json_length:], "<f4").reshape(2, 10)
    assert values.tolist() == [[1.0] * 10, [0.0] * 10]
