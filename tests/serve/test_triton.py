"""The answers of this server beside those of a real Triton, request by request."""

import gzip
import http.client
import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from bench.peers import triton
from pipeline.core.files import ROOT
from tests.serve.exchanges import Exchange, invalid, valid
from tests.serve.process import Record, serving, wait_until
from tests.support import free_port

pytestmark = pytest.mark.slow

MODEL = "/v2/models/batchnorm_mlp"
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
# The requests to which we answer otherwise, and why.
WANTED = {
    "null parameters": "an optional field may be null, as KServe's clients send it",
    "null outputs": "an optional field may be null",
    "null id": "an optional field may be null",
    "number 256": "Triton takes it modulo 256",
    "number [7]": "Triton ignores how data is nested",
    "nested unevenly": "Triton ignores how data is nested",
    "output twice": "Triton returns it once",
    "json, br": "415 is what HTTP has for an encoding that the server does not read, not 501",
    "json, zstd": "415, not 501",
    "json, gzip, deflate": "415, not 501",
    "json, compress": "415, not 501",
    "binary but for one": "Triton's documentation says that binary_data_output holds for outputs "
    "that are listed too",
    "a bomb": "413: the limit of a body's size holds once it is decompressed",
}


class Answer(NamedTuple):
    """A response, its body decompressed."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The JSON of the body, without the raw bytes behind it."""
        length = self.headers.get("inference-header-content-length")
        return json.loads(self.body[: int(length)] if length else self.body)


@pytest.fixture(scope="module")
def answers(
    tmp_path_factory: pytest.TempPathFactory, exported: bytes
) -> Iterator[dict[str, tuple[Exchange, Answer, Answer]]]:
    """By name, each request with our answer and Triton's."""
    try:
        triton.install()
    except OSError as error:
        pytest.skip(f"{error}; python -m bench.peers.triton would install it")
    folder = tmp_path_factory.mktemp("triton")
    model, repository = folder / "model.onnx", folder / "repository"
    model.write_bytes(exported)
    deploy = [sys.executable, "-m", "serve.deploy", str(repository), "--model", str(model)]
    subprocess.run(deploy, check=True, cwd=ROOT)
    port = free_port()
    process = triton.start(repository, port, free_port())
    try:
        wait_until(
            lambda: answer(port, Exchange("ready", "/v2/health/ready", "GET")).status == 200, 60
        )
        with serving(model) as (_, address):
            ours = int(address.rpartition(":")[2])
            (version,) = answer(ours, Exchange("model", MODEL, "GET")).json()["versions"]
            yield {
                exchange.name: (exchange, answer(ours, exchange, version), answer(port, exchange))
                for exchange in [*valid(), *invalid()]
            }
    finally:
        process.terminate()
        process.wait(60)


def answer(port: int, exchange: Exchange, version: str = "1") -> Answer:
    """Send a request exactly as it is, and return the response; status 0 if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    path = exchange.path.replace("VERSION", version)
    try:
        connection.request(exchange.method, path, exchange.body, dict(exchange.headers))
        response = connection.getresponse()
        body = response.read()
    except OSError:
        return Answer(0, {}, b"")
    finally:
        connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    unpack = UNPACK.get(headers.get("content-encoding", ""), bytes)
    return Answer(response.status, headers, unpack(body))


def outputs(found: Answer) -> dict[str, tuple[str, list[int], bool, list[Any]]]:
    """By name, an output's datatype, shape, whether it is raw, and its values."""
    message, outputs = found.json(), {}
    raw = found.body[int(found.headers.get("inference-header-content-length", 0)) :]
    for output in message["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        values = output.get("data")
        if size is not None:
            content, raw = raw[:size], raw[size:]
            values = strings(content) if output["datatype"] == "BYTES" else floats(content)
        outputs[output["name"]] = (
            output["datatype"], output["shape"], size is not None, values,
        )  # fmt: skip
    return outputs


def floats(content: bytes) -> list[float]:
    return np.frombuffer(content, "<f4").tolist()


def strings(content: bytes) -> list[str]:
    found = []
    while content:
        end = 4 + int.from_bytes(content[:4], "little")
        found.append(content[4:end].decode())
        content = content[end:]
    return found


def same(ours: Answer, theirs: Answer, exchange: Exchange) -> bool:
    """Whether two answers mean the same to a client."""
    if (ours.status, theirs.status) == (400, 500):  # what Triton cannot parse is its error
        return set(ours.json()) == set(theirs.json()) == {"error"}
    if ours.status // 100 != theirs.status // 100:
        return False
    if ours.status != 200 or not exchange.path.endswith("infer"):
        return True
    kinds = [found.headers.get("content-type") for found in (ours, theirs)]
    return kinds[0] == kinds[1] and same_outputs(outputs(ours), outputs(theirs))


def same_outputs(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    for name, (*kind, values) in ours.items():
        *their_kind, their_values = theirs.get(name, (None, []))
        if kind != their_kind:
            return False
        if kind[0] == "BYTES":
            if [text.split(":")[1:] for text in values] != [
                text.split(":")[1:] for text in their_values
            ]:
                return False
            values, their_values = (
                [float(text.split(":")[0]) for text in texts] for texts in (values, their_values)
            )
        if not np.allclose(values, their_values, atol=1e-5):
            return False
    return set(ours) == set(theirs)


def test_each_answer_is_tritons_but_for_those_listed(
    answers: dict[str, tuple[Exchange, Answer, Answer]], record_property: Record
) -> None:
    different = {name for name, (it, ours, theirs) in answers.items() if not same(ours, theirs, it)}
    agreement = 1 - len(different) / len(answers)
    record_property("seen", f"{len(answers)} requests, {agreement:.1%} answered as by Triton")
    assert different == set(WANTED)
    assert len(answers) > 150
    assert agreement >= 0.92


def test_both_describe_the_model_alike(
    answers: dict[str, tuple[Exchange, Answer, Answer]],
) -> None:
    _, ours, theirs = answers[f"GET {MODEL}"]
    for field in ("name", "platform", "inputs", "outputs"):
        assert ours.json()[field] == theirs.json()[field]
    _, ours, theirs = answers[f"GET {MODEL}/config"]
    for field in ("name", "platform", "backend", "max_batch_size"):
        assert ours.json()[field] == theirs.json()[field]
    for field in ("input", "output"):
        for tensor, other in zip(ours.json()[field], theirs.json()[field], strict=True):
            assert tensor.items() <= other.items()
    _, ours, theirs = answers["index"]
    assert [model["name"] for model in ours.json()] == [model["name"] for model in theirs.json()]
    assert [model["state"] for model in ours.json()] == [model["state"] for model in theirs.json()]
