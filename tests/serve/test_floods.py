"""Clients that send too much, too slowly or for too long cost little memory, and harm nobody."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO
from unittest.mock import MagicMock

import numpy as np
import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from serve.http.bodies import MAX_WAITING_BYTES, Budget
from serve.http.connection import Connection
from tests.serve.load import Served, load
from tests.serve.other_models import request, write
from tests.serve.process import (
    INFER,
    MODEL,
    Record,
    connect,
    http_request,
    memory_mb,
    raw_infer,
    send,
    serving,
    wait_until,
)

GROWTH_MB = 64
CHUNKED = "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
POST, INDEX = (CHUNKED.format(path).encode() for path in (INFER, "/v2/repository/index"))
GET = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n"
FLOODS = {  # connections, what each sends first, and what it then repeats
    "pipelined requests that are never read": (1, b"", b"GET /v2 HTTP/1.1\r\n\r\n" * 3000),
    "pipelined requests of 100 clients": (100, b"", b"GET /v2 HTTP/1.1\r\n\r\n" * 3000),
    "endless headers": (1, GET, b"a: b\r\n" * 10_000),
    "an endless header": (1, GET + b"a: ", b"b" * 2**16),
    "an endless path": (1, b"GET /", b"a" * 2**16),
    "an endless chunk extension": (1, POST + b"1;", b"a" * 2**16),
    "an endless body": (1, POST, b"10000\r\n" + bytes(2**16) + b"\r\n"),
    "an endless body of another route": (1, INDEX, b"10000\r\n" + bytes(2**16) + b"\r\n"),
    "endless trailers": (1, POST + b"0\r\n", b"a: b\r\n" * 10_000),
    "unread answers and long headers of 390 clients": (
        390,
        b"",
        http_request("GET", "/openapi.json", a="b" * 60_000) * 4,
    ),
    "many short headers and unread answers of 390 clients": (
        390,
        b"",
        (b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 98 + b"\r\n") * 20,
    ),
    "half-sent headers after a request of 390 clients": (
        390,
        http_request("GET", "/v2") + GET + b"a: " + b"b" * 250_000,
        b"",
    ),
    "long paths of 390 clients": (390, http_request("GET", "/" + "a" * 60_000), b""),
    "bodies that no route reads of 390 clients": (  # after one that lets the kernel accept more
        390,
        http_request("POST", INFER, bytes(2**21)),
        http_request("GET", "/v2", Content_Length=str(2**22)) + bytes(240_000),
    ),
    "half-sent bodies after a request of 390 clients": (
        390,
        http_request("POST", INFER, bytes(2**21)),
        raw_infer() + http_request("POST", INFER, Content_Length=str(2**22)) + bytes(240_000),
    ),
    "half-sent headers of 1000 clients": (1000, GET + b"a: " + b"b" * 60_000, b""),
    "half-sent bodies of 100 clients": (
        100,
        http_request("POST", INFER, Content_Length=str(2**22)) + bytes(2**20),
        b"",
    ),
}
WIDE = """wide (float[N, 250000] a, float[N, 250000] b) => (float[N, 1000000] y) {
    y = Concat <axis = 1> (a, b, a, b)
}"""
Server = tuple[subprocess.Popen[str], str]


@pytest.fixture
def server(several: list[Served]) -> Iterator[Server]:
    with serving([model.path for model in several]) as server:
        yield server


def status(address: str, request: bytes) -> int:
    """The status of the response to a request as it goes over the wire."""
    with connect(address) as connection:
        connection.sendall(request)
        return int(connection.recv(12)[9:])


def flood(server: Server, count: int, first: bytes, repeated: bytes, seconds: float) -> float:
    """Send as much as the server takes, and return the peak of its memory in MB."""
    process, address = server
    peak = memory_mb(process)
    end = time.monotonic() + seconds
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(address)) for _ in range(count)]
        for connection in connections:
            connection.settimeout(1)
            send(connection, first)
        while time.monotonic() < end and peak < 500:
            connections = [client for client in connections if send(client, repeated)]
            peak = max(peak, memory_mb(process))
            time.sleep(0.001)
    return peak


@pytest.mark.slow
@pytest.mark.parametrize("kind", FLOODS)
def test_memory_grows_by_less_than_64_mb_and_others_are_answered(
    server: Server, several: list[Served], kind: str, record_property: Record
) -> None:
    process, address = server
    with load(address, several, clients=1) as seen:
        wait_until(lambda: seen.statuses.total() > 300)
        before = memory_mb(process)
        growth = flood(server, *FLOODS[kind], seconds=4) - before
    assert list(seen.statuses) == [200]
    record_property("growth", f"{growth:.0f} MB")
    assert growth < GROWTH_MB
    wait_until(lambda: status(address, raw_infer()) == 200, timeout_s=15)
    assert memory_mb(process) - before < GROWTH_MB


@pytest.mark.slow
def test_large_answers_of_100_clients_that_never_read_cost_less_than_128_mb(
    several: list[Served], tmp_path: Path, record_property: Record
) -> None:
    rows = np.ones((2, 250_000), np.float32)
    body, headers = request({"a": rows, "b": rows}, binary=True)  # 4 MB, and its answer 8 MB
    wide = Served("wide", write(tmp_path, WIDE), body, headers)
    with serving([wide.path, *(model.path for model in several)]) as server:
        process, address = server
        assert wide.status(address) == 200
        before = memory_mb(process)
        with load(address, several, clients=1) as seen:
            growth = flood(server, 100, wide.request(), b"", seconds=4) - before
        assert list(seen.statuses) == [200]
        wait_until(lambda: wide.status(address) == 200, timeout_s=15)
    record_property("growth", f"{growth:.0f} MB")
    assert growth < 128


def read_response(responses: BinaryIO) -> None:
    """Read a response, which must be 200, and nothing after it."""
    assert responses.readline() == b"HTTP/1.1 200 OK\r\n"
    lines = iter(responses.readline, b"\r\n")
    headers = dict(line.split(b": ") for line in lines)
    responses.read(int(headers[b"content-length"]))


@pytest.mark.parametrize("ahead", [2, 8, 16])
def test_a_client_may_always_be_some_requests_ahead(server: Server, ahead: int) -> None:
    _, address = server
    request = raw_infer().replace(b"\r\n", b"\r\nCookie: " + b"c" * 2000 + b"\r\n", 1)
    with connect(address) as connection, connection.makefile("rb") as responses:
        connection.sendall(request * ahead)
        for _ in range(300):
            read_response(responses)
            connection.sendall(request)


def test_a_client_may_always_be_amid_the_next_request(server: Server) -> None:
    _, address = server
    lines = b"".join(b"a%d: b\r\n" % number for number in range(90))
    request = raw_infer().replace(b"\r\n", b"\r\n" + lines, 1)
    with connect(address) as connection, connection.makefile("rb") as responses:
        connection.sendall(request[:-1])
        for _ in range(2000):
            connection.sendall(request[-1:] + request[:-1])
            read_response(responses)


def test_what_a_connection_takes_of_the_budget_is_given_back_once() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    async def left() -> tuple[int, int]:
        budget, transport = Budget(), MagicMock(**{"is_closing.return_value": False})
        connection = Connection(budget, Config(app, log_config=None), ServerState(), {})
        connection.connection_made(transport)
        connection.data_received(raw_infer() + http_request("POST", INFER, bytes(60_000)))
        taken = budget.left
        transport.is_closing.return_value = True
        connection.connection_lost(None)
        connection.flow.resume_reading()  # as the app may do before it notices
        return taken, budget.left

    taken, at_last = asyncio.run(left())
    assert taken < at_last == MAX_WAITING_BYTES


def test_headers_over_the_limit_are_431_however_they_arrive(server: Server) -> None:
    _, address = server
    for headers in (b"a: " + b"b" * 2**16, b"a: b\r\n" * 101):
        assert status(address, GET + headers + b"\r\n\r\n") == 431
        assert status(address, GET + headers) == 431  # not yet complete
    assert status(address, GET + b"a: " + b"b" * 60_000 + b"\r\n\r\n") == 200


def test_pipelined_requests_are_answered_in_order_and_their_number_is_limited(
    server: Server,
) -> None:
    _, address = server
    requests = [raw_infer(), http_request("GET", MODEL), http_request("GET", "/nothing")] * 5
    with connect(address) as connection:
        for start in range(0, len(requests), 5):
            connection.sendall(b"".join(requests[start : start + 5]))
        connection.sendall(http_request("GET", "/v2", Connection="close"))
        content = connection.makefile("rb").read()
    statuses = [part[:3] for part in content.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"404"] * 5 + [b"200"]
    with connect(address) as connection:
        connection.sendall(http_request("GET", "/v2") * 40)
        content = connection.makefile("rb").read()
    assert 16 <= content.count(b"HTTP/1.1 200") <= 40
    assert b"connection: close" in content[content.rindex(b"HTTP/1.1") :]


@pytest.mark.slow
def test_connections_over_the_limit_are_503_and_others_still_answered(server: Server) -> None:
    _, address = server
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(address)) for _ in range(410)]
        connections[0].sendall(http_request("GET", "/v2"))
        assert connections[0].recv(12) == b"HTTP/1.1 200"
        assert connections[-1].recv(12) == b"HTTP/1.1 503"
    wait_until(lambda: status(address, http_request("GET", "/v2")) == 200)


@pytest.mark.slow
def test_idle_and_half_sent_and_unread_connections_end_within_15_s(
    server: Server, record_property: Record
) -> None:
    _, address = server
    unread = http_request("GET", "/openapi.json") * 16
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(address)) for _ in range(4)]
        clients[1].sendall(GET)
        clients[3].sendall(raw_infer()[:-1])
        clients[2].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        start = time.monotonic()
        while time.monotonic() < start + 8:
            send(clients[2], unread)
            time.sleep(0.05)
        clients[0].settimeout(15)
        assert clients[0].recv(1) == b""
        assert clients[1].recv(1) == b""
        assert clients[3].makefile("rb").read().startswith(b"HTTP/1.1 408")
        wait_until(lambda: not send(clients[2], unread), timeout_s=15)
        seconds = time.monotonic() - start
        record_property("seen", f"all ended after {seconds:.0f} s")
    assert seconds < 25


@pytest.mark.slow
def test_100000_requests_and_50000_connections_leave_memory_flat(
    server: Server, record_property: Record
) -> None:
    process, address = server
    figures = []

    def requests(count: int) -> None:
        request = raw_infer()
        with connect(address) as connection, connection.makefile("rb") as responses:
            for at_once in [1, 9] * (count // 10):
                connection.sendall(request * at_once)
                for _ in range(at_once):
                    read_response(responses)

    def connections(count: int) -> None:
        for number in range(count):  # from several addresses, for want of ports
            with connect(address, f"127.0.0.{2 + number % 8}") as connection:
                connection.sendall(http_request("GET", "/v2/health/live"))
                assert connection.recv(12) == b"HTTP/1.1 200"

    for use, count in ((requests, 100_000), (connections, 50_000)):
        use(count // 10)  # reach the plateau first
        before = memory_mb(process)
        use(count)
        figures.append(memory_mb(process) - before)
    record_property("growth", "growth {:.1f} MB and {:.1f} MB".format(*figures))
    assert max(figures) < 4
