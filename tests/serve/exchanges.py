"""Requests, valid and invalid, with which this server is compared with a real Triton."""

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

INFER = "/v2/models/batchnorm_mlp/infer"
ONE = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)
THREE = np.random.default_rng(1).integers(0, 256, (3, 28, 28), np.uint8)
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


class Exchange(NamedTuple):
    """A request; VERSION in its path stands for the version of the model."""

    name: str
    path: str = INFER
    method: str = "POST"
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})


def tensor(images: np.ndarray = ONE, **changes: Any) -> dict[str, Any]:
    """The input as JSON, with some fields changed, or removed where None."""
    fields = {
        "name": "images",
        "datatype": "UINT8",
        "shape": list(images.shape),
        "data": images.ravel().tolist(),
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def json_request(name: str, *inputs: dict[str, Any], **fields: Any) -> Exchange:
    """A request in JSON; without inputs, a valid one."""
    body = {"inputs": list(inputs) or [tensor()]} | fields
    return Exchange(name, body=json.dumps(body).encode())


def binary_request(
    name: str,
    images: np.ndarray = ONE,
    raw: bytes | None = None,
    size: int | None = None,
    length: str | None = None,
    data: list[int] | None = None,
    **fields: Any,
) -> Exchange:
    """A request whose input is raw bytes after the JSON."""
    raw = images.tobytes() if raw is None else raw
    parameters = {"binary_data_size": len(raw) if size is None else size}
    body = {"inputs": [tensor(images, data=data, parameters=parameters)]} | fields
    head = json.dumps(body).encode()
    headers = {"Inference-Header-Content-Length": length or str(len(head))}
    return Exchange(name, body=head + raw, headers=headers)


def compressed(exchange: Exchange, encoding: str, body: bytes | None = None) -> Exchange:
    """The same request, compressed."""
    headers = {**exchange.headers, "Content-Encoding": encoding}
    content = PACK.get(encoding, bytes)(exchange.body) if body is None else body
    return exchange._replace(name=f"{exchange.name}, {encoding}", body=content, headers=headers)


def raw_request(name: str, body: bytes) -> Exchange:
    """A request that is only the raw bytes of the input."""
    return Exchange(name, body=body, headers={"Inference-Header-Content-Length": "0"})


def outputs(*names: str, **parameters: Any) -> list[dict[str, Any]]:
    """Requested outputs, each with the parameters."""
    return [{"name": name, "parameters": parameters} for name in names]


def valid() -> list[Exchange]:
    """Requests that a client of Triton may send."""
    nested = THREE.tolist()
    flat = json_request("json")
    binary = binary_request("binary")
    requests = [
        flat,
        json_request("json, three rows", tensor(THREE)),
        json_request("json, nested", tensor(THREE, data=nested)),
        json_request("json, id", id="request 7"),
        json_request("json, unicode id", id="Zahl ü"),
        json_request("json, empty id", id=""),
        json_request("json, one output", outputs=[{"name": "logits"}]),
        json_request(
            "json, outputs in order", outputs=[{"name": "logits"}, {"name": "probabilities"}]
        ),
        json_request(
            "json, outputs in the other order",
            outputs=[{"name": "probabilities"}, {"name": "logits"}],
        ),
        json_request("json, no outputs", outputs=[]),
        json_request("json, unknown field", priority=7),
        json_request("json, unknown parameter", parameters={"color": "red"}),
        json_request("json, parameters of all types", parameters={"a": 1, "b": True, "c": "x"}),
        json_request("json, empty parameters", parameters={}),
        json_request("json, input with empty parameters", tensor(parameters={})),
        json_request(
            "json, output with empty parameters", outputs=[{"name": "logits", "parameters": {}}]
        ),
        json_request("json, no images of ink", tensor(np.zeros((2, 28, 28), np.uint8))),
        json_request("json, all ink", tensor(np.full((2, 28, 28), 255, np.uint8))),
        json_request("binary outputs", parameters={"binary_data_output": True}),
        json_request("json outputs by name", parameters={"binary_data_output": False}),
        json_request("one binary output", outputs=outputs("logits", binary_data=True)),
        json_request("one json output", outputs=outputs("logits", binary_data=False)),
        json_request(
            "one of two binary",
            outputs=[
                *outputs("logits", binary_data=True),
                *outputs("probabilities", binary_data=False),
            ],
        ),
        json_request(
            "binary but for one",
            parameters={"binary_data_output": True},
            outputs=[{"name": "logits"}, *outputs("probabilities", binary_data=False)],
        ),
        binary,
        binary_request("binary, three rows", THREE),
        binary_request("binary, id", id="7"),
        binary_request("binary to binary", parameters={"binary_data_output": True}),
        binary_request("binary to one binary", outputs=outputs("logits", binary_data=True)),
        binary_request("binary to classes", outputs=outputs("probabilities", classification=2)),
        raw_request("raw", ONE.tobytes()),
        *(compressed(request, how) for request in (flat, binary) for how in ("gzip", "deflate")),
        compressed(raw_request("raw", ONE.tobytes()), "gzip"),
        flat._replace(name="identity", headers={"Content-Encoding": "identity"}),
        flat._replace(name="content type", headers={"Content-Type": "application/json"}),
        flat._replace(name="other content type", headers={"Content-Type": "text/plain"}),
        flat._replace(name="accepts gzip", headers={"Accept-Encoding": "gzip"}),
        json_request("accepts gzip of much", tensor(np.zeros((64, 28, 28), np.uint8)))._replace(
            headers={"Accept-Encoding": "gzip"}
        ),
        json_request("accepts deflate of much", tensor(np.zeros((64, 28, 28), np.uint8)))._replace(
            headers={"Accept-Encoding": "deflate"}
        ),
        flat._replace(name="accepts others", headers={"Accept-Encoding": "br, zstd"}),
        *(
            json_request(f"{n} classes", outputs=outputs("probabilities", classification=n))
            for n in (0, 1, 3, 10)
        ),
        json_request(
            "classes of logits", tensor(THREE), outputs=outputs("logits", classification=3)
        ),
        json_request(
            "classes, binary", outputs=outputs("logits", classification=3, binary_data=True)
        ),
        binary._replace(
            name="length with blanks", headers={k: f" {v} " for k, v in binary.headers.items()}
        ),
        flat._replace(name="version", path="/v2/models/batchnorm_mlp/versions/VERSION/infer"),
        *(
            Exchange(f"GET {path}", path, "GET")
            for path in (
                "/v2",
                "/v2/health/live",
                "/v2/health/ready",
                "/v2/models/batchnorm_mlp",
                "/v2/models/batchnorm_mlp/ready",
                "/v2/models/batchnorm_mlp/config",
                "/v2/models/batchnorm_mlp/versions/VERSION",
                "/v2/models/batchnorm_mlp/versions/VERSION/ready",
                "/v2/models/batchnorm_mlp/versions/VERSION/config",
            )
        ),
        Exchange("index", "/v2/repository/index", body=b"{}"),
        Exchange("index without body", "/v2/repository/index"),
    ]
    return requests


def invalid() -> list[Exchange]:
    """Requests that a server must refuse, or that servers differ about."""
    flat = json_request("json")
    pixels = ONE.ravel().tolist()
    big = gzip.compress(b" " * 2**26)
    return [
        *(
            Exchange(f"body {body[:20]!r}", body=body)
            for body in (
                b"",
                b"{",
                b"[]",
                b"7",
                b"null",
                b"{}",
                b"\xff\xfe",
                b'{"inputs": [NaN]}',
                b"[" * 1000,
            )
        ),
        json_request("trailing comma")._replace(body=flat.body[:-1] + b",}"),
        flat._replace(name="text behind the JSON", body=flat.body + b"x"),
        flat._replace(name="half of the body", body=flat.body[:1000]),
        *(
            Exchange(f"inputs {inputs}", body=f'{{"inputs": {inputs}}}'.encode())
            for inputs in ("[]", "[1]", "{}", '"images"', "null", "[{}]", "[[]]")
        ),
        json_request("no name", tensor(name=None)),
        json_request("no datatype", tensor(datatype=None)),
        json_request("no shape", tensor(shape=None)),
        json_request("no data", tensor(data=None)),
        json_request("another name", tensor(name="pixels")),
        json_request("a name that is a number", tensor(name=7)),
        json_request("input twice", tensor(), tensor()),
        json_request("input and another", tensor(), tensor(name="more")),
        *(
            json_request(f"datatype {datatype}", tensor(datatype=datatype))
            for datatype in ("INT8", "FP32", "BYTES", "BF16", "uint8", "", 7)
        ),
        *(
            json_request(f"shape {shape}", tensor(shape=shape))
            for shape in (
                [],
                [784],
                [28, 28],
                [1, 784],
                [1, 28, 28, 1],
                [2, 28, 28],
                [0, 28, 28],
                [-1, 28, 28],
                [1, 28, 27],
                [1.5, 28, 28],
                ["1", 28, 28],
                [2**70, 28, 28],
                [1, -28, -28],
                7,
                "1,28,28",
            )
        ),
        json_request("too many rows", tensor(np.zeros((1025, 28, 28), np.uint8))),
        *(
            json_request(f"number {value}", tensor(data=[*pixels[:-1], value]))
            for value in (
                256,
                -1,
                0.5,
                1e3,
                True,
                None,
                "7",
                2**70,
                [7],
            )
        ),
        json_request("a number too few", tensor(data=pixels[:-1])),
        json_request("a number too many", tensor(data=[*pixels, 0])),
        json_request("empty data", tensor(data=[])),
        json_request("data is a number", tensor(data=7)),
        json_request("data is text", tensor(data="7" * 784)),
        json_request("nested unevenly", tensor(data=[pixels[:700], pixels[700:]])),
        json_request("another output", outputs=[{"name": "labels"}]),
        json_request("output twice", outputs=[{"name": "logits"}] * 2),
        json_request("output without name", outputs=[{}]),
        json_request("outputs is text", outputs="logits"),
        json_request("output is text", outputs=["logits"]),
        json_request("id is a number", id=7),
        json_request("parameters is a number", parameters=7),
        json_request("parameters is a list", parameters=[]),
        json_request("binary_data is text", outputs=outputs("logits", binary_data="yes")),
        json_request("binary_data_output is text", parameters={"binary_data_output": "yes"}),
        *(
            json_request(f"{n} classes", outputs=outputs("logits", classification=n))
            for n in (-1, "three", 1.5, 11)
        ),
        json_request("classes of another output", outputs=outputs("labels", classification=1)),
        json_request(
            "shared memory",
            tensor(
                data=None, parameters={"shared_memory_region": "r", "shared_memory_byte_size": 784}
            ),
        ),
        json_request(
            "shared memory output",
            outputs=outputs("logits", shared_memory_region="r", shared_memory_byte_size=40),
        ),
        json_request("null parameters", parameters=None),
        json_request("null outputs", outputs=None),
        json_request("null id", id=None),
        json_request(
            "sizes without bytes", tensor(data=None, parameters={"binary_data_size": 784})
        ),
        binary_request("a byte too few", raw=ONE.tobytes()[:-1]),
        binary_request("a byte too many", raw=ONE.tobytes() + b"x"),
        binary_request("more bytes than the size", raw=ONE.tobytes() + b"x", size=784),
        binary_request("fewer bytes than the size", raw=ONE.tobytes()[:-1], size=784),
        binary_request("negative size", size=-1),
        binary_request("size is text", size="784"),  # type: ignore[arg-type]
        binary_request("no bytes", raw=b""),
        binary_request("bytes and data", data=pixels),
        binary_request("length is text", length="all"),
        binary_request("length is negative", length="-1"),
        binary_request("length of the body and more", length="100000"),
        binary_request("length too short", length="10"),
        binary_request("length is a fraction", length="10.5"),
        flat._replace(
            name="stray bytes",
            body=flat.body + b"xyz",
            headers={"Inference-Header-Content-Length": str(len(flat.body))},
        ),
        raw_request("raw, a byte too few", ONE.tobytes()[:-1]),
        raw_request("raw, two rows", THREE[:2].tobytes()),
        raw_request("raw, nothing", b""),
        compressed(flat._replace(name="plain"), "gzip", flat.body),
        compressed(flat._replace(name="plain"), "deflate", flat.body),
        compressed(flat._replace(name="part"), "gzip", gzip.compress(flat.body)[:100]),
        compressed(flat._replace(name="nothing"), "gzip", b""),
        *(compressed(flat, how) for how in ("br", "zstd", "gzip, deflate", "compress")),
        flat._replace(name="a bomb", body=big, headers={"Content-Encoding": "gzip"}),
        flat._replace(name="another model", path="/v2/models/other/infer"),
        flat._replace(name="another version", path="/v2/models/batchnorm_mlp/versions/99/infer"),
        flat._replace(
            name="a version that is text", path="/v2/models/batchnorm_mlp/versions/x/infer"
        ),
        flat._replace(name="a slash behind", path=INFER + "/"),
        flat._replace(name="another verb", path="/v2/models/batchnorm_mlp/generate"),
        *(
            Exchange(f"{method} {path}", path, method)
            for method, path in (
                ("GET", INFER),
                ("PUT", INFER),
                ("DELETE", INFER),
                ("POST", "/v2"),
                ("POST", "/v2/health/ready"),
                ("POST", "/v2/models/batchnorm_mlp"),
                ("GET", "/v2/models/other"),
                ("GET", "/v2/models/other/ready"),
                ("GET", "/v2/models/other/config"),
                ("GET", "/v2/models/batchnorm_mlp/versions/99"),
                ("GET", "/v2/models/batchnorm_mlp/versions/99/ready"),
                ("GET", "/v2/"),
                ("GET", "/v2/nothing"),
                ("GET", "/v3"),
                ("GET", "/v2/repository/index"),
                ("GET", "/v2/models"),
            )
        ),
        Exchange("index of nonsense", "/v2/repository/index", body=b"{"),
    ]
