"""The ASGI application: access, then inference or the other routes."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from serve.http.access import SECURITY_HEADERS, Access
from serve.http.bodies import Budget, read
from serve.http.infer import PATH, Inference
from serve.http.page import add_page
from serve.http.routes import create_routes
from serve.http.sampling import add_sample_routes
from serve.model.metrics import REFUSALS
from serve.model.served import ServedModels

# Of requests to other routes than inference. FastAPI's errors keep bodies until garbage collection.
MAX_OTHER_BYTES = 64 * 2**10
log = logging.getLogger("serve")


class App:
    """Sends inference requests to infer.py, which is fast, and all others to FastAPI.

    start: is called in the event loop before the first request.
    budget: for all that waits; the connections share it.
    """

    def __init__(
        self,
        models: ServedModels,
        access: Access,
        start: Callable[[], None],
        log_requests: bool = False,
    ) -> None:
        self._metrics = models.metrics
        self._access = access
        self._start = start
        self.budget = Budget()
        self._routes = create_routes(models, self._lifespan)
        add_sample_routes(self._routes, models, self.budget)
        add_page(self._routes, models)
        inference = Inference(models, self.budget)
        self._infer = inference.respond_and_log if log_requests else inference.respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return
        try:
            self._access.check(scope)
            if scope["method"] == "POST":
                if path := PATH.fullmatch(scope["path"]):
                    await self._infer(path, scope, receive, send)
                    return
                # FastAPI would read a body without limits.
                receive = _received(await read(receive, self.budget, MAX_OTHER_BYTES))
        except HTTPException as error:
            if error.status_code in REFUSALS:
                self._log_refusal(error, scope)
            response = JSONResponse({"error": error.detail}, error.status_code, error.headers)
            await response(scope, receive, _secured(send))
            return
        if scope["method"] == "HEAD":  # the response to GET, of which uvicorn drops the body
            scope = {**scope, "method": "GET"}
        await self._routes(scope, receive, _secured(send))

    def _log_refusal(self, error: HTTPException, scope: Scope) -> None:
        client, path = scope["client"] or ("?",), scope["path"][:200]
        log.warning("%d for %s %r from %s", error.status_code, scope["method"], path, client[0])
        self._metrics.count_refusal(error.status_code)

    @asynccontextmanager
    async def _lifespan(self, _routes: FastAPI) -> AsyncIterator[None]:
        self._start()
        yield


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
