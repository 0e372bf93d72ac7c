"""The hot path: answers one inference request, from ASGI messages to ASGI messages.

It bypasses FastAPI, whose routing and validation cost more than the network.
"""

import logging
import re
import time
import uuid

from serve.batching import Batcher, OverloadError
from serve.encoding import COMPRESSED_FROM, compress, decompress, read_encoding
from serve.messages import Error
from serve.models import Models
from serve.protocol import RequestError
from serve.reader import Headers, HTTPError, Message, Reader, Receive, Send
from serve.responses import encode_json
from serve.writer import Writer

REQUEST_ID = re.compile(rb"[!-~]{1,128}")
PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
log = logging.getLogger("serve")


async def respond(
    models: Models,
    reader: Reader,
    writer: Writer,
    path: re.Match[str],
    scope: Message,
    receive: Receive,
    send: Send,
) -> int:
    """Answer one POST request whose path matches `PATH`, and return the HTTP status."""
    start = time.perf_counter()
    status, batcher = 200, None
    try:
        batcher = models.find(*path.groups())
        body, headers = await answer(batcher, reader, scope["headers"], receive, start)
        writer.check(len(body))
    except HTTPError as error:
        status, body = error.status, encode_json(Error(str(error)))
        headers = [(b"content-type", b"application/json")]
        if status == 503:
            headers.append((b"retry-after", b"1"))
    except Exception:
        log.exception("inference request failed")
        status, body = 500, b'{"error":"internal error, see the log"}'
        headers = [(b"content-type", b"application/json")]
    headers.append((b"content-length", b"%d" % len(body)))
    await writer.write(status, headers, body, send)
    if status != 200:  # the batcher observes the successful ones
        models.observe_failure(batcher, status, time.perf_counter() - start)
    return status


async def respond_and_log(
    models: Models,
    reader: Reader,
    writer: Writer,
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

    status = await respond(models, reader, writer, path, scope, receive, send_with_id)
    line = {
        "request_id": request_id.decode("latin-1"),
        "path": scope["path"][:200],
        "status": status,
        "latency_ms": round((time.perf_counter() - start) * 1000, 3),
        "model_version": models.version(path[1]),
    }
    log.info(encode_json(line).decode())


async def answer(
    batcher: Batcher, reader: Reader, headers: Headers, receive: Receive, start: float
) -> tuple[bytes, Headers]:
    """Return the body of the response and the headers that describe it.

    start: when the request arrived, by time.perf_counter().

    Raises:
        HTTPError: the request is invalid (400), too large (413), too slow (408) or encoded
            otherwise than by gzip or deflate (415), or the server is overloaded (503).
    """
    engine = batcher.engine
    json_length, compressed, accepted = read_encoding(headers)
    body = await reader.read(receive)
    if compressed != b"identity":
        body = decompress(body, compressed)
    try:
        request = engine.decoder.decode(body, json_length)
        outputs = await batcher.infer(engine, request, start)
    except RequestError as error:
        raise HTTPError(400, str(error)) from error
    except OverloadError as error:
        raise HTTPError(503, "too many requests are waiting: try again in a second") from error
    content, json_length = engine.encoder.encode(engine.name, engine.version, request, outputs)
    described = [(b"content-type", b"application/json")]
    if json_length is not None:
        described = [
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % json_length),
        ]
    if accepted != b"identity" and len(content) >= COMPRESSED_FROM:
        described.append((b"content-encoding", accepted))
        content = compress(content, accepted)
    return content, described
