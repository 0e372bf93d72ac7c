"""The ASGI application: access, then inference or the other routes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from queue import SimpleQueue

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from serve.http.access import SECURITY_HEADERS, Access
from serve.http.bodies import Reader, Writer
from serve.http.errors import HTTPError
from serve.http.infer import PATH, Inference
from serve.http.routes import create_routes
from serve.model.engine import Engine
from serve.model.reload import Reloader
from serve.model.served import ServedModels

# Of requests to other routes than inference. FastAPI's errors keep bodies until garbage collection.
MAX_OTHER_BYTES = 64 * 2**10
log = logging.getLogger("serve")


class App:
    """Sends inference requests to infer.py, which is fast, and all others to FastAPI.

    engines: the models to serve first.
    loads: for each model, returns what to serve at each reload.
    access: checks every request.
    reloads: each item asks for a reload.
    log_requests: log each inference request.
    poll_s: seconds between reloads; None to reload only on request.
    """

    def __init__(
        self,
        engines: list[Engine],
        loads: Sequence[Callable[[], Engine]],
        access: Access,
        reloads: SimpleQueue[int],
        log_requests: bool = False,
        poll_s: float | None = None,
    ) -> None:
        self.models = ServedModels(engines)
        self._reloader = Reloader(loads, self.models, reloads, poll_s)
        self._reader = Reader()
        self._access = access
        self._routes = create_routes(self.models, self._lifespan)
        inference = Inference(self.models, self._reader, Writer())
        self._infer = inference.respond_and_log if log_requests else inference.respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return
        try:
            self._access.check(scope)
        except HTTPError as error:
            await self._refuse(error, scope, receive, send)
            return
        path = scope["method"] == "POST" and PATH.fullmatch(scope["path"])
        if path:
            await self._infer(path, scope, receive, send)
            return
        if scope["method"] == "POST":  # FastAPI would read a body without limits
            try:
                receive = _received(await self._reader.read(receive, MAX_OTHER_BYTES))
            except HTTPError as error:
                response = JSONResponse({"error": str(error)}, error.status)
                await response(scope, receive, _secured(send))
                return
        if scope["method"] == "HEAD":  # the response to GET, of which uvicorn drops the body
            scope = {**scope, "method": "GET"}
        await self._routes(scope, receive, _secured(send))

    async def _refuse(self, error: HTTPError, scope: Scope, receive: Receive, send: Send) -> None:
        client, path = scope["client"] or ("?",), scope["path"][:200]
        log.warning("%d for %s %r from %s", error.status, scope["method"], path, client[0])
        self.models.metrics.count_refusal(error.status)
        headers = {"www-authenticate": "Bearer"} if error.status == 401 else None
        response = JSONResponse({"error": str(error)}, error.status, headers)
        await response(scope, receive, _secured(send))

    @asynccontextmanager
    async def _lifespan(self, _routes: FastAPI) -> AsyncIterator[None]:
        self._reloader.start()
        task = asyncio.create_task(self._cancel_slow())
        yield
        task.cancel()

    async def _cancel_slow(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._reader.cancel_slow()


def _received(body: bytes) -> Receive:
    """Return `receive` of a request whose body has been read."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _secured(send: Send) -> Send:
    """Return `send` that adds the security headers to a response."""

    async def send_secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *SECURITY_HEADERS]
        await send(message)

    return send_secured
