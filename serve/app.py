"""The HTTP application: routes, access control, and errors as {"error": "…"}."""

import asyncio
import hmac
import html
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from serve import infer, protocol
from serve.batching import Batcher
from serve.engine import Engine
from serve.reader import HTTPError, Message, Reader, Receive, Send
from serve.schema import INFERENCE, add_bodies, errors

PAGE = Path(__file__).parent / "page"
OPEN_PATHS = {"/", "/style.css", "/page.js", "/v2/health/live", "/v2/health/ready"}
log = logging.getLogger("serve")


class App:
    """ASGI application that sends inference requests to infer.py and all others to FastAPI.

    load: returns the model to serve; called at startup and at each reload.
    token: bearer token that all routes but the page and the health checks require, if given.
    log_requests: log each inference request.
    poll_s: seconds between reloads; None to reload only on SIGHUP.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        token: str | None = None,
        log_requests: bool = False,
        poll_s: float | None = None,
    ) -> None:
        self.batcher = Batcher(load())
        self.reader = Reader()
        self.rest = create_rest(self)
        self.poll_s = poll_s
        self._load = load
        self._bearer = f"Bearer {token}".encode() if token else None
        self._infer = infer.respond_and_log if log_requests else infer.respond

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http":
            if self._bearer and not self._may_ask(scope):
                error = JSONResponse({"error": "missing or invalid bearer token"}, 401)
                error.headers["www-authenticate"] = "Bearer"
                await error(scope, receive, send)
                return
            path = scope["method"] == "POST" and infer.PATH.fullmatch(scope["path"])
            if path:
                await self._infer(self.batcher, self.reader, path, scope, receive, send)
                return
        await self.rest(scope, receive, send)

    def _may_ask(self, scope: Message) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        assert self._bearer
        return scope["path"] in OPEN_PATHS or hmac.compare_digest(given, self._bearer)

    async def reload(self) -> None:
        """Load the model again and swap it in if it is new; keep the old one if loading fails."""
        try:
            engine = await asyncio.to_thread(self._load)
        except (OSError, ValueError) as error:
            log.error("reload failed, kept version %s: %s", self.batcher.engine.version, error)
            return
        if engine.version != self.batcher.engine.version:
            log.info("replaced version %s with %s", self.batcher.engine.version, engine.version)
            self.batcher.swap(engine)

    async def watch(self) -> None:
        """Reload the model on SIGHUP and every `poll_s` seconds."""
        asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), self.poll_s)
            asked.clear()
            await self.reload()

    async def hurry(self) -> None:
        """Cancel slow request bodies, once a second."""
        while True:
            await asyncio.sleep(1)
            self.reader.cancel_slow()


def create_rest(app: App) -> FastAPI:
    """Return the FastAPI application with all routes; `App` handles those for inference itself."""

    @asynccontextmanager
    async def lifespan(_rest: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(app.watch()), asyncio.create_task(app.hurry())]
        yield
        for task in tasks:
            task.cancel()

    rest = FastAPI(title="mnist-batchnorm", version=protocol.VERSION, lifespan=lifespan)
    rest.add_exception_handler(StarletteHTTPException, _http_error)
    rest.add_exception_handler(RequestValidationError, _bad_request)
    rest.add_exception_handler(Exception, _server_error)
    batcher = app.batcher

    @rest.get("/v2")
    async def server_metadata() -> dict[str, Any]:
        return protocol.SERVER_METADATA

    # The specification and KServe disagree on the key of each response: both have both keys.
    @rest.get("/v2/health/live")
    @rest.get("/v2/health/ready")
    async def health() -> dict[str, bool]:
        return {"live": True, "ready": True}

    @rest.get("/v2/models/{name}", responses=errors(404))
    @rest.get("/v2/models/{name}/versions/{version}", responses=errors(404))
    async def model_metadata(name: str, version: str | None = None) -> dict[str, Any]:
        check_model(name, version)
        engine = batcher.engine
        return protocol.model_metadata(engine.name, engine.version, engine.metadata)

    @rest.get("/v2/models/{name}/ready", responses=errors(404))
    @rest.get("/v2/models/{name}/versions/{version}/ready", responses=errors(404))
    async def model_ready(name: str, version: str | None = None) -> dict[str, Any]:
        check_model(name, version)
        return {"name": name, "ready": True}

    @rest.post("/v2/models/{name}/infer", **INFERENCE)
    @rest.post("/v2/models/{name}/versions/{version}/infer", **INFERENCE)
    async def inference(name: str, version: str | None = None) -> None:
        """Classify images."""
        # App answers before FastAPI sees the request: this route exists for /docs.
        raise NotImplementedError

    @rest.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(batcher.metrics.exposition(), media_type="text/plain; version=0.0.4")

    @rest.get("/", include_in_schema=False)
    async def page() -> Response:
        text = (PAGE / "index.html").read_text()
        return HTMLResponse(text.replace("{{ model }}", html.escape(batcher.engine.name)))

    @rest.get("/style.css", include_in_schema=False)
    async def style() -> Response:
        return FileResponse(PAGE / "style.css")

    @rest.get("/page.js", include_in_schema=False)
    async def script() -> Response:
        return FileResponse(PAGE / "page.js")

    def check_model(name: str, version: str | None) -> None:
        try:
            infer.check_model(batcher.engine, name, version)
        except HTTPError as error:
            raise HTTPException(error.status, str(error)) from error

    add_bodies(rest)
    return rest


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _bad_request(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _server_error(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "internal error, see the log"}, 500)
