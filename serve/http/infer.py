"""The hot path: answers inference requests, from ASGI messages to ASGI messages.

It bypasses FastAPI, whose routing and validation cost more than the network.
"""

import logging
import re
import time
import uuid

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from serve.http.bodies import Budget, Headers, read
from serve.http.compression import COMPRESSED_FROM, compress, decompress, read_encoding
from serve.model.batching import OverloadError
from serve.model.served import ServedModel, ServedModels, UnknownModelError
from serve.protocol.encoder import encode_json
from serve.protocol.messages import INTERNAL_ERROR, Error
from serve.protocol.numbers import RequestError

REQUEST_ID = re.compile(rb"[!-~]{1,128}")
PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
STATUSES = {UnknownModelError: 404, RequestError: 400, OverloadError: 503}
log = logging.getLogger("serve")


class Inference:
    """Answers POST requests whose path matches `PATH`.

    budget: has room for their bodies, and for the responses.
    """

    def __init__(self, models: ServedModels, budget: Budget) -> None:
        self._models = models
        self._budget = budget

    async def respond(self, path: re.Match[str], scope: Scope, receive: Receive, send: Send) -> int:
        """Answer one request, and return the HTTP status."""
        start = time.perf_counter()
        status, model = 200, None
        try:
            model = self._models.find(*path.groups())
            body, headers = await self._answer(model, scope["headers"], receive, start)
            self._budget.check(len(body))
        except Exception as error:
            status, reason = STATUSES.get(type(error), 500), str(error)
            if isinstance(error, HTTPException):
                status, reason = error.status_code, error.detail
            elif status == 500:
                log.exception("inference request failed")
                reason = INTERNAL_ERROR
            body = encode_json(Error(reason))
            headers = [(b"content-type", b"application/json")]
            if status == 503:
                headers.append((b"retry-after", b"1"))
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if status != 200:  # the batcher observes the successful ones
            latency_s = time.perf_counter() - start
            if model:
                model.metrics.observe_requests(status, [latency_s])
            else:
                self._models.metrics.observe_unknown(latency_s)
        return status

    async def respond_and_log(
        self, path: re.Match[str], scope: Scope, receive: Receive, send: Send
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

        status = await self.respond(path, scope, receive, send_with_id)
        line = {
            "request_id": request_id.decode("latin-1"),
            "path": scope["path"][:200],
            "status": status,
            "latency_ms": round((time.perf_counter() - start) * 1000, 3),
            "model_version": self._models.version(path[1]),
        }
        log.info(encode_json(line).decode())

    async def _answer(
        self, model: ServedModel, headers: Headers, receive: Receive, start: float
    ) -> tuple[bytes, Headers]:
        """Return the body of the response and the headers that describe it.

        start: when the request arrived, by time.perf_counter().

        Raises:
            HTTPException: the body does not arrive (408), is too large (413) or compressed
                otherwise than by gzip or deflate (415), or too much is waiting (503).
            RequestError: the request is invalid.
            OverloadError: too many rows are waiting.
        """
        json_length, compressed, accepted = read_encoding(headers)
        body = await read(receive, self._budget)
        if compressed != b"identity":
            body = decompress(body, compressed)
        request = model.decoder.decode(body, json_length)
        size = len(body)
        self._budget.check(size)
        self._budget.left -= size
        try:
            outputs = await model.batcher.infer(request, start)
        finally:
            self._budget.left += size
        content, json_length = model.encode(request, outputs)
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
