"""Models of other inputs, datatypes and shapes than ours, served as ONNX Runtime runs them."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser

from serve.http.app import MAX_OTHER_BYTES
from serve.model.engine import Engine
from serve.protocol.numbers import RequestError
from serve.protocol.tensors import DATATYPES, Arrays
from tests.serve.other_models import HEADER, INPUTS, MODELS, request, write
from tests.serve.process import decoder, serving


def outputs(response: httpx.Response) -> Arrays:
    """The outputs of a response."""
    assert response.status_code == 200, response.text
    length = response.headers.get("inference-header-content-length")
    raw = response.content[int(length) :] if length else b""
    dtypes = {d.name: d.dtype for d in DATATYPES.values()}
    found = {}
    for output in json.loads(response.content[: int(length)] if length else response.content)[
        "outputs"
    ]:
        dtype = dtypes[output["datatype"]]
        if length:
            size = output["parameters"]["binary_data_size"]
            values, raw = np.frombuffer(raw[:size], dtype), raw[size:]
        else:
            values = np.array(output["data"], dtype)
        found[output["name"]] = values.reshape(output["shape"])
    return found


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A client of one server with all the models."""
    folder = tmp_path_factory.mktemp("models")
    paths = [write(folder, text) for text in MODELS.values()]
    with serving(paths) as (_, address), httpx.Client(base_url=address) as client:
        yield client


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("binary", [False, True])
def test_the_outputs_are_those_of_onnx_runtime(
    client: httpx.Client, tmp_path: Path, name: str, binary: bool
) -> None:
    body, headers = request(INPUTS[name], binary)
    response = client.post(f"/v2/models/{name}/infer", content=body, headers=headers)
    session = ort.InferenceSession(write(tmp_path, MODELS[name]))
    names = [node.name for node in session.get_outputs()]
    expected = dict(zip(names, session.run(None, INPUTS[name]), strict=True))
    found = outputs(response)
    assert list(found) == names
    for output in names:
        assert found[output].dtype == expected[output].dtype
        assert np.array_equal(found[output], expected[output])


def test_a_large_request_for_the_index_is_413(client: httpx.Client) -> None:
    response = client.post("/v2/repository/index", content=b"[" * (MAX_OTHER_BYTES + 1))
    assert response.status_code == 413
    assert f"exceeds {MAX_OTHER_BYTES} bytes" in response.json()["error"]


def test_all_models_are_listed_ready_and_described(client: httpx.Client) -> None:
    index = client.post("/v2/repository/index").json()
    assert [(model["name"], model["state"]) for model in index] == [(m, "READY") for m in MODELS]
    metadata = client.get("/v2/models/two_inputs").json()
    assert metadata["inputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "b", "datatype": "FP32", "shape": [-1, 3]},
    ]
    config = client.get("/v2/models/no_batch/config").json()
    assert config["max_batch_size"] == 0
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [2, 3]}]
    assert client.get("/v2/models/mask/config").json()["max_batch_size"] == 1024
    metrics = client.get("/metrics").text
    for name in MODELS:
        assert client.get(f"/v2/models/{name}/ready").json() == {"name": name, "ready": True}
        assert f'inference_batch_rows_count{{model="{name}"}}' in metrics


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("two_inputs", {"b": None}, "must be ['a', 'b'], each once, got 1"),
        ("two_inputs", {"b": np.zeros((1, 3), np.float32)}, "same 1 to 1024 rows"),
        ("two_inputs", {"b": np.zeros((2, 3), np.int64)}, "b must have datatype FP32, got 'INT64'"),
        ("two_inputs", {"c": np.zeros((2, 3), np.float32)}, "Invalid value 'c'"),
        ("no_batch", {"x": np.zeros((1, 3), np.float32)}, "x must have shape [2, 3]"),
        ("any_length", {"tokens": np.zeros(4, np.int64)}, "must have shape [-1, -1]"),
        ("mask", {"mask": np.zeros((1, 2), np.uint8)}, "Expected `bool`, got `int`"),
    ],
)
def test_other_inputs_are_refused_with_the_reason(
    client: httpx.Client, name: str, changed: dict[str, np.ndarray | None], message: str
) -> None:
    inputs = {**INPUTS[name], **changed}
    body, _ = request({key: array for key, array in inputs.items() if array is not None})
    response = client.post(f"/v2/models/{name}/infer", content=body)
    assert response.status_code == 400
    assert message in response.json()["error"]


@pytest.mark.parametrize("value", [2**63, -1, 0.5, True, "1", None])
def test_a_number_that_does_not_fit_is_refused(tmp_path: Path, value: Any) -> None:
    text = "unsigned (uint32[N, 1] x) => (uint32[N, 1] y) { y = Identity (x) }"
    engine = Engine.read(write(tmp_path, text))
    tensor = {"name": "x", "datatype": "UINT32", "shape": [1, 1], "data": [value]}
    with pytest.raises(ValueError, match=r"x must hold UINT32|Expected `int"):
        decoder(engine).decode(json.dumps({"inputs": [tensor]}).encode())


def test_a_bool_of_raw_bytes_is_0_or_1(client: httpx.Client) -> None:
    body, headers = request(INPUTS["mask"], binary=True)
    at = int(headers["Inference-Header-Content-Length"])
    body = body[:at] + b"\2" + body[at + 1 :]
    response = client.post("/v2/models/mask/infer", content=body, headers=headers)
    assert (response.status_code, response.json()["error"]) == (
        400,
        "mask must hold bytes of 0 or 1",
    )


def test_a_model_of_text_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "text (string[N] x) => (string[N] y) { y = Identity (x) }")
    with pytest.raises(ValueError, match=r"x is a tensor.string., this server carries BOOL, UINT8"):
        Engine.read(path)


def test_two_models_of_one_name_need_names_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path, MODELS["half"])
    with serving([f"one={path}", f"two={path}"]) as (_, address):
        index = httpx.post(f"{address}/v2/repository/index").json()
    assert [model["name"] for model in index] == ["one", "two"]


def test_inputs_whose_first_axes_differ_have_no_batch(tmp_path: Path) -> None:
    text = "product (float[M, K] a, float[K, N] b) => (float[M, N] y) { y = MatMul (a, b) }"
    inputs = {"a": np.ones((2, 3), np.float32), "b": np.ones((3, 4), np.float32)}
    engine = Engine.read(write(tmp_path, text))
    assert not engine.batches
    found = decoder(engine).decode(request(inputs)[0])
    assert np.array_equal(engine.infer(found.inputs)["y"], np.full((2, 4), 3))


@pytest.mark.parametrize("name", ["", "a/b", "a b"])
def test_a_name_that_no_path_can_have_is_refused(tmp_path: Path, name: str) -> None:
    model = parser.parse_model(f"{HEADER} {MODELS['half']}")
    model.graph.name = name
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="use --model NAME=PATH"):
        Engine.read(tmp_path / "model.onnx")
    assert Engine.read(tmp_path / "model.onnx", "half").name == "half"


@pytest.mark.parametrize(
    ("datatype", "number"), [("float16", 1e5), ("float", 1e39), ("float", -1e39)]
)
def test_a_number_that_would_become_infinite_is_refused(
    tmp_path: Path, datatype: str, number: float
) -> None:
    text = f"numbers ({datatype}[N] x) => ({datatype}[N] y) {{ y = Identity (x) }}"
    engine = Engine.read(write(tmp_path, text))
    name = engine.inputs[0].datatype.name
    tensor = {"name": "x", "datatype": name, "shape": [1], "data": [number]}
    with pytest.raises(ValueError, match=f"x must hold {name}: a number is too large"):
        decoder(engine).decode(json.dumps({"inputs": [tensor]}).encode())


def test_shapes_that_no_array_has_are_refused(tmp_path: Path) -> None:
    huge = b"1" + bytes(4299).replace(b"\0", b"0")
    large = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[%s,1,1],"data":[]}]}' % huge
    text = "open (float[N, H, W] x) => (float[N, H, W] y) { y = Identity (x) }"
    decode = decoder(Engine.read(write(tmp_path, text))).decode
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 0, 2**62], "data": []}
    with pytest.raises(ValueError, match="cannot have shape"):
        decode(json.dumps({"inputs": [tensor]}).encode())
    with pytest.raises(RequestError, match=r"Expected `int`|out of range"):
        decode(large)
    with pytest.raises(ValueError, match="does not tell the shape of x"):
        decode(b"1234", 0)
