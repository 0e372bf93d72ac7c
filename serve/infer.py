"""The hot path: one inference request, from ASGI's messages to ASGI's messages.

It stands before FastAPI because routing and validation there cost more than the network does.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serve import protocol
from serve.batching import Batcher, OverloadError
from serve.engine import Engine

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
MAX_BODY_BYTES = 4 * 2**20  # protocol.MAX_IMAGES images as JSON

log = logging.getLogger("serve")


class Reader:
    """Reads bodies within a time limit, kept for all at once: a timer for each is ten times dearer.

    Its owner calls `cancel_slow` now and then.
    """

    def __init__(self, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._since: dict[asyncio.Task, float] = {}  # who reads, and since when

    async def read(self, receive: Receive) -> bytes:
        """Return the whole body.

        Raises:
            HTTPError: it is too large (413), comes too slowly (408) or breaks off (400).
        """
        task = asyncio.current_task()
        assert task
        self._since[task] = time.monotonic()
        pieces, size = [], 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HTTPError(400, "the client has gone")
                pieces.append(message["body"])
                size += len(message["body"])
                if size > MAX_BODY_BYTES:
                    raise HTTPError(413, f"a body may have {MAX_BODY_BYTES} bytes: send less")
                if not message["more_body"]:
                    return b"".join(pieces)
        except asyncio.CancelledError as error:
            raise HTTPError(408, f"the body took more than {self._timeout_s} s") from error
        finally:
            del self._since[task]

    def cancel_slow(self) -> None:
        """Give up the bodies that take too long."""
        latest = time.monotonic() - self._timeout_s
        for task, since in self._since.items():
            if since < latest:
                task.cancel()


class HTTPError(Exception):
    """An answer other than 200: its status and one sentence for whoever asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def respond(
    batcher: Batcher,
    reader: Reader,
    path: re.Match[str],
    scope: Message,
    receive: Receive,
    send: Send,
) -> int:
    """Answer one POST to a path that `PATH` matches, and return the status."""
    start = time.perf_counter()
    status = 200
    try:
        check_model(batcher.engine, *path.groups())
        body, headers = await answer(batcher, reader, scope["headers"], receive, start)
    except HTTPError as error:
        status, body = error.status, protocol.encode(protocol.Error(str(error)))
        headers = [(b"content-type", b"application/json")]
        if status == 503:
            headers.append((b"retry-after", b"1"))
    except Exception:
        log.exception("an inference failed")
        status, body = 500, b'{"error":"internal error, see the log"}'
        headers = [(b"content-type", b"application/json")]
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    if status != 200:  # the batch has observed the others
        batcher.metrics.observe_requests(status, [time.perf_counter() - start])
    return status


async def respond_and_log(
    batcher: Batcher,
    reader: Reader,
    path: re.Match[str],
    scope: Message,
    receive: Receive,
    send: Send,
) -> None:
    """Do as `respond`, echo or make up the request's X-Request-ID, and log one line of JSON."""
    start = time.perf_counter()
    given = dict(scope["headers"]).get(b"x-request-id")
    request_id = given or uuid.uuid4().hex.encode()

    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"].append((b"x-request-id", request_id))
        await send(message)

    status = await respond(batcher, reader, path, scope, receive, send_with_id)
    line = {
        "request_id": request_id.decode("latin-1"),
        "path": scope["path"],
        "status": status,
        "latency_ms": round((time.perf_counter() - start) * 1000, 3),
        "model_version": batcher.engine.version,
    }
    log.info(protocol.encode(line).decode())


async def answer(
    batcher: Batcher, reader: Reader, headers: Headers, receive: Receive, start: float
) -> tuple[bytes, Headers]:
    """Return the body of the response and the headers that describe it; `start` is when it came.

    Raises:
        HTTPError: the request is wrong (400), too large (413) or too slow (408), or the server is
            overloaded (503).
    """
    json_length = read_headers(headers)
    body = await reader.read(receive)
    try:
        request, images = protocol.decode_request(body, json_length)
        engine, tensors = await batcher.infer(images, start)
    except protocol.RequestError as error:
        raise HTTPError(400, str(error)) from error
    except OverloadError as error:
        raise HTTPError(503, "too many requests wait: try again in a second") from error
    content, json_length = protocol.encode_response(engine.name, engine.version, request, tensors)
    if json_length is None:
        return content, [(b"content-type", b"application/json")]
    length = (b"inference-header-content-length", b"%d" % json_length)
    return content, [(b"content-type", b"application/octet-stream"), length]


def check_model(engine: Engine, name: str, version: str | None) -> None:
    """Raise HTTPError 404 unless these name the model and the version that are served."""
    if name != engine.name:
        raise HTTPError(404, f"there is no model {name!r}, only {engine.name!r}")
    if version not in (None, engine.version):
        raise HTTPError(404, f"there is no version {version!r}, only {engine.version!r}")


def read_headers(headers: Headers) -> int | None:
    """Return the length of the JSON before raw tensors, None if the body is all JSON."""
    length = None
    for name, value in headers:
        if name == b"inference-header-content-length":
            if not value.isdigit() or len(value) > 18:
                raise HTTPError(400, "Inference-Header-Content-Length must be a whole number")
            length = int(value)
        elif name == b"content-encoding" and value != b"identity":
            raise HTTPError(400, "compressed bodies are not read: send them as they are")
    return length
