"""Who gets an answer: hosts, tokens, and what strangers may write into the log."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.exceptions import HTTPException

from pipeline.core.files import ROOT
from serve.http.access import Access, check_token
from tests.serve.process import (
    INFER,
    MODEL,
    connect,
    http_request,
    memory_mb,
    raw_request,
    serving,
    wait_until,
)

TOKEN = "s3cret~token"  # noqa: S105
BODY, HEADERS = raw_request(np.zeros((1, 28, 28), np.uint8))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("access") / "log"


@pytest.fixture(scope="module")
def guarded(
    exported: bytes, tmp_path_factory: pytest.TempPathFactory, log: Path
) -> Iterator[httpx.Client]:
    """A client without a token of a server that requires one and logs requests."""
    model = tmp_path_factory.mktemp("guarded") / "model.onnx"
    model.write_bytes(exported)
    with (
        serving(model, "--log-requests", log=log, SERVE_TOKEN=TOKEN) as (_, address),
        httpx.Client(base_url=address) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"BEARER  {TOKEN}", 200),
        ("", 401),
        ("Bearer wrong", 401),
        (f"Basic {TOKEN}", 401),
        (f"Bearer{TOKEN}", 401),
        ("Bearer", 401),
        ("Bearer \xff", 401),
    ],
)
def test_a_token_is_required_if_it_is_set(
    guarded: httpx.Client, authorization: str, status: int
) -> None:
    headers = HEADERS | ({"Authorization": authorization} if authorization else {})
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    assert guarded.get("/v2", headers=raw).status_code == status
    assert guarded.post(INFER, content=BODY, headers=raw).status_code == status


def test_the_pages_and_the_health_checks_need_no_token(guarded: httpx.Client) -> None:
    for path in ("/", "/docs", "/docs.js", "/openapi.json", "/v2/health/live", "/v2/health/ready"):
        assert guarded.get(path).status_code == 200
    for path in ("/v2", MODEL, "/metrics", f"{MODEL}/ready"):
        assert guarded.get(path).status_code == 401


def test_requests_without_the_token_are_logged_and_counted(
    guarded: httpx.Client, log: Path
) -> None:
    def count() -> float:
        text = guarded.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
        found = re.search(r'^http_refusals_total\{status="401"\} (.*)$', text, re.MULTILINE)
        assert found
        return float(found[1])

    before = count()
    assert guarded.get("/v2/secret%0aline").status_code == 401
    assert count() == before + 1
    assert r"401 for GET '/v2/secret\nline' from 127.0.0.1" in log.read_text()


@pytest.mark.parametrize("token", ["line\n", "two words", "tab\t", "ümlaut", " ", "\x7f"])
def test_a_token_that_no_client_can_send_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        check_token(token)


def test_a_token_that_no_client_can_send_ends_the_start_with_a_line(model: Path) -> None:
    command = [sys.executable, "-m", "serve", "--model", str(model), "--port", "0"]
    done = subprocess.run(
        command, cwd=ROOT, env={"SERVE_TOKEN": "ümlaut"}, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: SERVE_TOKEN must be printable ASCII")


@pytest.mark.parametrize(
    ("given", "logged"),
    [("a7", "a7"), ("x" * 128, "x" * 128), ("x" * 129, None), ("a b", None), ("a\tb", None)],
)
def test_a_request_id_is_logged_and_echoed_if_it_is_short_and_printable(
    guarded: httpx.Client, log: Path, given: str, logged: str | None
) -> None:
    headers = HEADERS | {"Authorization": f"Bearer {TOKEN}", "X-Request-ID": given}
    response = guarded.post(INFER, content=BODY, headers=headers)
    request_id = response.headers["x-request-id"]
    assert request_id == logged or (logged is None and re.fullmatch("[0-9a-f]{32}", request_id))
    wait_until(lambda: f'{{"request_id":"{request_id}"' in log.read_text())


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LocalHost:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("10.1.2.3:8080", True),  # a kubelet or Prometheus; no name, so no DNS rebinding
        ("digits.example", True),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("evil.example#localhost", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
        ("a b", False),
    ],
)
def test_a_host_must_be_an_address_or_allowed(host: str, allowed: bool) -> None:
    access = Access(hosts=["localhost", "digits.example"])
    scope = {"method": "GET", "path": "/v2", "headers": [(b"host", host.encode())]}
    if allowed:
        access.check(scope)
    else:
        with pytest.raises(HTTPException, match="not one of --allowed-hosts"):
            access.check(scope)
    access.check(scope | {"path": "/v2/health/ready"})
    Access(hosts=["*"]).check(scope)


def test_a_page_of_another_host_gets_no_answer(model: Path) -> None:
    with serving(model, "--allowed-hosts", "digits.example") as (_, address):

        def status(path: str, host: str) -> int:
            return httpx.get(address + path, headers={"Host": host}).status_code

        assert status("/v2", "evil.example") == 421
        assert status("/", "evil.example") == 421
        assert status("/v2", "digits.example:8080") == 200
        assert status("/v2/health/ready", "evil.example") == 200


def test_it_listens_on_an_ipv6_address(model: Path) -> None:
    with serving(model, "--host", "::1") as (_, address):
        assert address.startswith("http://[::1]:")
        assert httpx.get(f"{address}/v2").status_code == 200


def test_every_response_that_a_browser_shows_has_security_headers(server: httpx.Client) -> None:
    for path in ("/", "/docs", "/v2", "/nothing"):
        headers = server.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_head_is_answered_where_get_is(server: httpx.Client) -> None:
    for path in ("/", "/docs", "/style.css", "/v2", MODEL, "/v2/health/ready", "/openapi.json"):
        head, get = server.head(path), server.get(path)
        assert head.status_code == get.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == str(len(get.content))
    assert server.head(INFER).status_code == 405
    address = f"http://127.0.0.1:{server.base_url.port}"
    with connect(address) as connection:  # the connection is still in step
        connection.sendall(http_request("HEAD", "/v2") + http_request("GET", "/nothing"))
        connection.sendall(http_request("GET", "/v2", Connection="close"))
        assert connection.makefile("rb").read().count(b"HTTP/1.1 ") == 3


def test_no_page_loads_anything_from_another_host(server: httpx.Client) -> None:
    for path in ("/", "/docs"):
        text = server.get(path).text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', text)
        assert loaded
        assert [url for url in loaded if "//" in url] == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://HOST"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_page_of_another_site_cannot_send_requests(
    guarded: httpx.Client, headers: dict[str, str], status: int
) -> None:
    host = guarded.base_url.netloc.decode()
    sent = {name: value.replace("HOST", host) for name, value in headers.items()}
    sent |= HEADERS | {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/plain"}
    assert guarded.post(INFER, content=BODY, headers=sent).status_code == status
    assert guarded.get(MODEL, headers=sent).status_code == 200


@pytest.mark.slow
def test_a_thousand_long_hosts_are_refused_and_not_remembered(
    model: Path, record_property: Callable[[str, object], None]
) -> None:
    with serving(model) as (process, address), connect(address) as client:
        before = memory_mb(process)
        with client.makefile("rb") as responses:
            for number in range(1024):
                client.sendall(b"GET /v2 HTTP/1.1\r\nHost: %d%s\r\n\r\n" % (number, b"a" * 60_000))
                assert responses.readline().startswith(b"HTTP/1.1 421")
                headers = dict(line.split(b": ") for line in iter(responses.readline, b"\r\n"))
                responses.read(int(headers[b"content-length"]))
        growth = memory_mb(process) - before
    record_property("growth", f"{growth:.0f} MB")
    assert growth < 16
