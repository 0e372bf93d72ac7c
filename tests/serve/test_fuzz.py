"""Any request gets a response that is not a 5xx, and the server's memory does not grow."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from tests.serve.process import serving

INFER = "/v2/models/batchnorm_mlp/infer"
SEEDS, EXAMPLES = 2, 1000  # of which each is sent in five ways
GROWTH_BYTES = 32 * 2**20


@pytest.fixture(scope="module")
def address(exported: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("fuzz") / "model.onnx"
    path.write_bytes(exported)
    with serving(path, "--sample", "100") as (_, url):
        yield url.removeprefix("http://")


@pytest.fixture
def connection(address: str) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        yield connection


def server_memory(address: str) -> int:
    """The memory in bytes of the process that listens on the address."""
    port = int(address.split(":")[1])
    for connection in psutil.net_connections("tcp4"):
        if connection.status == "LISTEN" and connection.laddr.port == port and connection.pid:
            return psutil.Process(connection.pid).memory_info().rss
    raise AssertionError(f"nothing listens on {address}")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
SIZES = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 28, 784, 1024, 2**31, 2**63])
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "binary_data_size": SIZES | ANYTHING,
        "binary_data": st.booleans() | ANYTHING,
        "binary_data_output": st.booleans() | ANYTHING,
        "classification": SIZES | ANYTHING,
        "drift": st.booleans() | ANYTHING,
        "shared_memory_region": st.text(max_size=8) | ANYTHING,
    },
)
TENSORS = st.fixed_dictionaries(
    {"name": st.just("images") | ANYTHING, "datatype": st.just("UINT8") | ANYTHING},
    optional={
        "shape": st.tuples(SIZES, st.just(28), st.just(28)) | st.lists(SIZES) | ANYTHING,
        "data": st.sampled_from([[0] * 784, [[[255] * 28] * 28]]) | st.lists(ANYTHING) | ANYTHING,
        "parameters": PARAMETERS | ANYTHING,
    },
)
OUTPUTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["logits", "probabilities"]) | ANYTHING},
    optional={"parameters": PARAMETERS | ANYTHING},
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2) | ANYTHING},
    optional={
        "outputs": st.lists(OUTPUTS, max_size=4) | ANYTHING,
        "id": st.text() | ANYTHING,
        "parameters": PARAMETERS | ANYTHING,
    },
)


VALID = {
    "inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": [7] * 784}]
}


@st.composite
def bodies(draw: st.DrawFn) -> list[tuple[bytes, str | None]]:
    """A body, valid or not, as it is, truncated, and with trailing bytes, and lengths of its JSON:
    drawing a body takes much longer than sending it."""
    requests = REQUESTS | REQUESTS.map(lambda request: request | VALID) | st.just(VALID)
    body = draw(st.binary(max_size=64) | requests.map(lambda request: json.dumps(request).encode()))
    length, any_length = str(len(body)), draw(SIZES.map(str) | st.just("ten"))
    longer = body + draw(st.just(bytes(784)) | st.binary(max_size=64))
    cut = longer[: draw(st.integers(0, len(longer)))]
    return [(body, None), (body, any_length), (longer, length), (cut, None), (cut, length)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # a thread of another test may
def test_ten_thousand_bodies_cause_no_failure_no_hang_and_no_growth(
    address: str, connection: http.client.HTTPConnection
) -> None:
    statuses: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(bodies())
    @example([(b"[" * 2**20, None)])
    @example([(b'{"inputs":' * 2**18, None)])
    @example([(b" " * 2**22, None)])
    @example([(b"{" + b'"a":' + b"9" * 2**20 + b"}", None)])
    def send(requests: list[tuple[bytes, str | None]]) -> None:
        for body, length in requests:
            headers = {} if length is None else {"Inference-Header-Content-Length": length}
            connection.request("POST", INFER, body, headers)
            response = connection.getresponse()
            content = response.read()
            statuses.add(response.status)
            assert response.status in (200, 400, 413), content
            if response.status != 200:
                assert json.loads(content)["error"]

    for _ in range(100):  # reach the peak of memory before measuring its growth
        connection.request("POST", INFER, b"[" * 2**20)
        connection.getresponse().read()
    before = server_memory(address)
    for number in range(SEEDS):
        seed(number)(send)()
    assert server_memory(address) - before < GROWTH_BYTES
    assert statuses >= {200, 400}
    assert httpx.get(f"http://{address}/v2/health/ready").status_code == 200


@pytest.mark.slow
def test_the_server_conforms_to_its_openapi_document(address: str, tmp_path: Path) -> None:
    (version,) = httpx.get(f"http://{address}/v2/models/batchnorm_mlp").json()["versions"]
    parameters = f'[parameters]\nname = "batchnorm_mlp"\nversion = "{version}"\n'
    (tmp_path / "schemathesis.toml").write_text(parameters)
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_headers_conformance,response_schema_conformance"
    )
    options = ["--max-examples", "50", "--request-timeout", "5", "--seed", "0", "--no-color"]
    done = subprocess.run(
        ["schemathesis", "run", f"http://{address}/openapi.json", "--checks", checks, *options],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    assert "16 passed" in done.stdout
    assert "Missing test data" not in done.stdout
