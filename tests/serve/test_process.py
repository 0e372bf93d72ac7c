"""The real `python -m serve`: its warnings, its log, and overload."""

import http.client
import shutil
import signal
import socket
import subprocess
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

from pipeline.core.inference import json_request
from serve.__main__ import check
from tests.serve.load import Served, load
from tests.serve.other_models import request
from tests.serve.process import INFER, Record, connect, http_request, raw_request, serving

ROWS = np.ones((1024, 3), np.float32)
BURSTS = 50
LARGE = {  # requests of which at most sixteen, or four, may wait
    "batchnorm_mlp": raw_request(np.zeros((256, 28, 28), np.uint8)),
    "two_inputs": request({"a": ROWS, "b": ROWS}, binary=True),
}


def test_a_public_address_without_a_token_is_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVE_TOKEN", raising=False)
    for host in ("127.0.0.1", "::1", "localhost"):
        check(Namespace(workers=1, poll=None, sample=None, host=host))
    assert not caplog.text
    check(Namespace(workers=1, poll=None, sample=None, host="0.0.0.0"))  # noqa: S104
    assert "set SERVE_TOKEN" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": 1000},
        {"poll": 0.0},
        {"poll": float("nan")},
        {"host": "nowhere"},
        {"sample": 0},
    ],
)
def test_an_invalid_option_is_refused(options: dict[str, float | str]) -> None:
    with pytest.raises(ValueError, match=r"got|nowhere"):
        check(Namespace(**{"workers": 1, "poll": None, "sample": None, "host": "::1"} | options))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batchnorm_mlp", "two_inputs"])
def test_overload_of_a_model_is_answered_or_refused_and_fails_no_request_of_another(
    several: list[Served], name: str, record_property: Record
) -> None:
    (model,) = [model for model in several if model.name == name]
    others = [other for other in several if other is not model]
    body, headers = LARGE[name]
    large = http_request("POST", model.infer, body, **headers)
    statuses: Counter[int] = Counter()

    with (
        serving([model.path for model in several]) as (process, address),
        load(address, others, clients=1) as seen,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(connect(address)) for _ in range(64)]
        for _ in range(BURSTS):
            for client in clients:
                client.sendall(large[:-1])
            process.send_signal(signal.SIGSTOP)  # so that all requests are complete at once
            for client in clients:
                client.sendall(large[-1:])
            process.send_signal(signal.SIGCONT)
            statuses.update(map(status, clients))
        assert min(statuses[200], statuses[503]) > BURSTS  # some of each burst

        def repeat(client: socket.socket) -> Iterator[int]:
            while time.monotonic() < end:
                client.sendall(large)
                yield status(client)

        others_before, end = seen.statuses.total(), time.monotonic() + 10
        with ThreadPoolExecutor(len(clients)) as pool:
            for its in pool.map(lambda client: Counter(repeat(client)), clients):
                statuses += its
        assert seen.statuses.total() > others_before
        start = time.monotonic()
        httpx.post(address + model.infer, content=body, headers=headers).raise_for_status()
        assert time.monotonic() - start < 1
    assert list(seen.statuses) == [200]
    record_property("seen", f"{statuses[200]} answered, {statuses[503]} refused")
    assert set(statuses) == {200, 503}


def status(client: socket.socket) -> int:
    """The status of the next response."""
    response = http.client.HTTPResponse(client)
    response.begin()
    response.read()
    return response.status


def test_an_upgrade_that_is_not_offered_is_ignored_and_the_connection_goes_on(model: Path) -> None:
    body, headers = raw_request(np.zeros((1, 28, 28), np.uint8))
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMA"}
    request = http_request("POST", INFER, body, **headers, **upgrade)
    next_request = http_request("GET", "/v2", b"", **upgrade)
    with (
        serving(model) as (_, address),
        connect(address) as client,
        client.makefile("rb") as responses,
    ):
        for cut in (10, len(request) - len(body), len(request) - 3):
            client.sendall(request[:cut])
            time.sleep(0.05)
            client.sendall(request[cut:] + next_request)
            for _ in range(2):
                assert responses.readline() == b"HTTP/1.1 200 OK\r\n"
                lines = dict(line.split(b": ") for line in iter(responses.readline, b"\r\n"))
                responses.read(int(lines[b"content-length"]))


JAVA = """
import java.net.URI;
import java.net.http.*;
public class Client {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        var text = HttpResponse.BodyHandlers.ofString();
        var body = HttpRequest.BodyPublishers.ofString(arguments[1]);
        var request = HttpRequest.newBuilder(URI.create(arguments[0])).POST(body).build();
        for (int i = 0; i < 3; i++)
            System.out.println(client.send(request, text).statusCode());
    }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("javac"), reason="needs a JDK: apt-get install default-jdk")
def test_javas_client_which_asks_for_http_2_is_answered(model: Path, tmp_path: Path) -> None:
    (tmp_path / "Client.java").write_text(JAVA)
    image = np.zeros((1, 28, 28), np.uint8)
    body, _ = json_request(image)
    with serving(model) as (_, address):
        done = subprocess.run(
            ["java", str(tmp_path / "Client.java"), address + INFER, body.decode()],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.stdout.split() == ["200"] * 3, done.stderr
