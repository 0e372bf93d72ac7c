"""The hot path: answers one inference request, from ASGI messages to ASGI messages.

It bypasses FastAPI, whose routing and validation cost more than the network.
"""

import logging
import re
import time
import uuid

from serve import protocol
from serve.batching import Batcher, OverloadError
from serve.engine import Engine
from serve.reader import Headers, HTTPError, Message, Reader, Receive, Send, json_length

REQUEST_ID = re.compile(rb"[!-~]{1,128}")
PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
log = logging.getLogger("serve")


async def respond(
    batcher: Batcher,
    reader: Reader,
    path: re.Match[str],
    scope: Message,
    receive: Receive,
    send: Send,
) -> int:
    """Answer one POST request whose path matches `PATH`, and return the HTTP status."""
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
        log.exception("inference request failed")
        status, body = 500, b'{"error":"internal error, see the log"}'
        headers = [(b"content-type", b"application/json")]
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    if status != 200:  # the batcher observes the successful ones
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
    """Call `respond`, echo or generate the X-Request-ID header, and log one line of JSON.

    An X-Request-ID that is not 1 to 128 printable characters is replaced.
    """
    start = time.perf_counter()
    given = dict(scope["headers"]).get(b"x-request-id", b"")
    request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()

    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"].append((b"x-request-id", request_id))
        await send(message)

    status = await respond(batcher, reader, path, scope, receive, send_with_id)
    line = {
        "request_id": request_id.decode("latin-1"),
        "path": scope["path"][:200],
        "status": status,
        "latency_ms": round((time.perf_counter() - start) * 1000, 3),
        "model_version": batcher.engine.version,
    }
    log.info(protocol.encode(line).decode())


async def answer(
    batcher: Batcher, reader: Reader, headers: Headers, receive: Receive, start: float
) -> tuple[bytes, Headers]:
    """Return the body of the response and the headers that describe it.

    start: when the request arrived, by time.perf_counter().

    Raises:
        HTTPError: the request is invalid (400), too large (413) or too slow (408), or the server
            is overloaded (503).
    """
    head_length = json_length(headers)
    body = await reader.read(receive)
    try:
        request, images = protocol.decode_request(body, head_length)
        engine, tensors = await batcher.infer(images, start)
    except protocol.RequestError as error:
        raise HTTPError(400, str(error)) from error
    except OverloadError as error:
        raise HTTPError(503, "too many requests are waiting: try again in a second") from error
    content, head_length = protocol.encode_response(engine.name, engine.version, request, tensors)
    if head_length is None:
        return content, [(b"content-type", b"application/json")]
    length = (b"inference-header-content-length", b"%d" % head_length)
    return content, [(b"content-type", b"application/octet-stream"), length]


def check_model(engine: Engine, name: str, version: str | None) -> None:
    """Raise HTTPError (404) unless `name` and `version` are those of the served model."""
    if name != engine.name:
        raise HTTPError(404, f"no model {name!r}: this server has {engine.name!r}")
    if version not in (None, engine.version):
        raise HTTPError(404, f"no version {version!r}: this server has {engine.version!r}")
