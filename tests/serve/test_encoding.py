"""Compressed, raw and classifying requests; tests/serve/test_triton.py has Triton's answers."""

import gzip
import json
import zlib
from collections.abc import Callable
from contextlib import nullcontext

import httpx
import numpy as np
import pytest
from starlette.exceptions import HTTPException

from serve.http.bodies import MAX_BODY_BYTES
from serve.http.compression import read_encoding
from serve.protocol.encoder import Encoder
from serve.protocol.numbers import RequestError
from serve.protocol.request import Request, Wanted
from serve.protocol.tensors import DATATYPES, Tensor
from tests.serve.exchanges import INFER, ONE, THREE, json_request, outputs

JSON = json_request("json").body


def raw_deflate(body: bytes) -> bytes:
    """Deflate without zlib's header, which some clients send by mistake."""
    return zlib.compress(body)[2:-4]


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_body_is_read_as_the_plain_one(
    server: httpx.Client, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    plain = server.post(INFER, content=JSON).json()
    headers = {"content-encoding": encoding}
    assert server.post(INFER, content=pack(JSON), headers=headers).json() == plain


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", JSON, 400),
        ("gzip", gzip.compress(JSON)[:-1], 400),
        ("gzip", gzip.compress(JSON) * 2, 400),
        ("gzip", b"", 400),
        ("deflate", raw_deflate(JSON), 400),
        ("gzip", gzip.compress(b" " * (MAX_BODY_BYTES + 1)), 413),
        ("br", JSON, 415),
        ("gzip, gzip", JSON, 415),
    ],
)
def test_what_is_not_compressed_as_it_says_or_too_large_is_refused(
    server: httpx.Client, encoding: str, body: bytes, status: int
) -> None:
    response = server.post(INFER, content=body, headers={"content-encoding": encoding})
    assert response.status_code == status
    assert set(response.json()) == {"error"}


@pytest.mark.parametrize(
    ("accepted", "rows", "encoding"),
    [
        ("gzip", 64, "gzip"),
        ("deflate, gzip", 64, "deflate"),
        ("br, *", 64, None),
        ("gzip", 1, None),
    ],
)
def test_a_large_answer_is_compressed_where_the_client_asks_for_it(
    server: httpx.Client, accepted: str, rows: int, encoding: str | None
) -> None:
    images = {
        "name": "images",
        "datatype": "UINT8",
        "shape": [rows, 28, 28],
        "data": [0] * 784 * rows,
    }
    body = {"inputs": [images], "outputs": [{"name": "logits"}]}
    response = server.post(INFER, json=body, headers={"accept-encoding": accepted})
    assert response.headers.get("content-encoding") == encoding
    assert response.json()["outputs"][0]["shape"] == [rows, 10]  # which httpx decompresses


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip;q=0, deflate", b"deflate"),
        ("gzip;q=0.0", b"identity"),
        ("GZIP ; q=0.5", b"gzip"),
        ("identity, gzip", b"identity"),
        ("", b"identity"),
    ],
)
def test_the_first_encoding_that_a_client_accepts_is_chosen(accepted: str, chosen: bytes) -> None:
    assert read_encoding([(b"accept-encoding", accepted.encode())])[2] == chosen


def test_blanks_around_the_length_do_not_matter() -> None:
    assert read_encoding([(b"inference-header-content-length", b" 12 ")])[0] == 12
    with pytest.raises(HTTPException, match="1 to 18 digits"):
        read_encoding([(b"inference-header-content-length", b"1 2")])


def test_a_raw_request_is_one_row_and_gets_raw_outputs(server: httpx.Client) -> None:
    headers = {"inference-header-content-length": "0"}
    response = server.post(INFER, content=ONE.tobytes(), headers=headers)
    length = int(response.headers["inference-header-content-length"])
    logits = np.frombuffer(response.content[length : length + 40], np.float32)
    expected = server.post(INFER, content=JSON).json()["outputs"][0]["data"]
    assert logits.tolist() == expected


def test_classes_are_the_highest_values_with_their_labels(server: httpx.Client) -> None:
    images = {
        "name": "images",
        "datatype": "UINT8",
        "shape": [3, 28, 28],
        "data": THREE.ravel().tolist(),
    }
    body = {"inputs": [images], "outputs": outputs("logits", classification=2)}
    (classes,) = server.post(INFER, json=body).json()["outputs"]
    assert (classes["datatype"], classes["shape"]) == ("BYTES", [3, 2])
    (logits,) = server.post(INFER, json=body | {"outputs": outputs("logits")}).json()["outputs"]
    for row, found in zip(
        np.reshape(logits["data"], (3, 10)), np.reshape(classes["data"], (3, 2)), strict=True
    ):
        best = np.argsort(-row)[:2]
        assert list(found) == [f"{row[i]:.6f}:{i}:{i}" for i in best]


def test_binary_classes_have_their_lengths_before_them(server: httpx.Client) -> None:
    asked = outputs("probabilities", classification=1, binary_data=True)
    response = server.post(INFER, content=json_request("classes", outputs=asked).body)
    length = int(response.headers["inference-header-content-length"])
    (output,) = json.loads(response.content[:length])["outputs"]
    content = response.content[length:]
    assert output["parameters"]["binary_data_size"] == len(content)
    assert int.from_bytes(content[:4], "little") == len(content) - 4
    assert content[4:].decode().count(":") == 2


def test_rows_that_say_so_do_not_count_for_drift(new_server: httpx.Client) -> None:
    images = {
        "name": "images",
        "datatype": "UINT8",
        "shape": [512, 28, 28],
        "data": [0] * 784 * 512,
    }

    def alarms(**parameters: bool) -> float:
        body = {"inputs": [images], "parameters": parameters}
        assert new_server.post(INFER, json=body).status_code == 200
        metrics = new_server.get("/metrics").text.splitlines()
        (line,) = (line for line in metrics if line.startswith("inference_drift_alarms_total{"))
        return float(line.split()[-1])

    assert alarms(drift=False) == 0
    assert alarms() > 0


@pytest.mark.parametrize(("numbers", "binary"), [(2**19 + 1, False), (2**22 + 1, True)])
def test_an_answer_that_would_take_too_much_memory_is_refused(numbers: int, binary: bool) -> None:
    (tensor,) = [Tensor("y", DATATYPES["tensor(float)"], (-1,))]
    encoder = Encoder([tensor], False, {})
    for size in (numbers - 1, numbers):
        request = Request({}, 1, [Wanted("y", binary)], None)
        with nullcontext() if size < numbers else pytest.raises(RequestError, match="ask for less"):
            encoder.encode("model", "1", request, {"y": np.zeros(size, np.float32)})
