"""The routes besides inference, as a FastAPI application, and errors as {"error": "…"}."""

import html
import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import StatelessLifespan

from serve import infer, protocol
from serve.batching import Batcher
from serve.engine import Engine
from serve.reader import HTTPError
from serve.schema import INFERENCE, add_bodies, errors

PAGE = Path(__file__).parent / "page"
FILES = {
    "/style.css": "style.css",
    "/page.js": "page.js",
    "/docs": "docs.html",
    "/docs.js": "docs.js",
}
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "Not ready"}}
log = logging.getLogger("serve")


def create_routes(batcher: Batcher, lifespan: StatelessLifespan[FastAPI]) -> FastAPI:
    """Return the FastAPI application with all routes; `App` handles those for inference itself."""
    rest = FastAPI(
        title="mnist-batchnorm",
        version=protocol.VERSION,
        lifespan=lifespan,
        docs_url=None,  # those of FastAPI load scripts from a CDN
        redoc_url=None,
    )
    rest.add_exception_handler(StarletteHTTPException, _http_error)
    rest.add_exception_handler(RequestValidationError, _bad_request)
    rest.add_exception_handler(Exception, _server_error)

    @rest.get("/v2")
    async def server_metadata() -> dict[str, Any]:
        return protocol.SERVER_METADATA

    # The specification and KServe disagree on the key of each response: both have both keys.
    @rest.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True, "ready": _is_ready(batcher.engine)}

    @rest.get("/v2/health/ready", responses=NOT_READY)
    async def ready(response: Response) -> dict[str, bool]:
        ready = _is_ready(batcher.engine)
        response.status_code = 200 if ready else 503
        return {"live": True, "ready": ready}

    @rest.get("/v2/models/{name}", responses=errors(404))
    @rest.get("/v2/models/{name}/versions/{version}", responses=errors(404))
    async def model_metadata(name: str, version: str | None = None) -> dict[str, Any]:
        check_model(name, version)
        engine = batcher.engine
        return protocol.model_metadata(engine.name, engine.version, engine.metadata)

    @rest.get("/v2/models/{name}/ready", responses=errors(404) | NOT_READY)
    @rest.get("/v2/models/{name}/versions/{version}/ready", responses=errors(404) | NOT_READY)
    async def model_ready(
        name: str, response: Response, version: str | None = None
    ) -> dict[str, Any]:
        check_model(name, version)
        ready = _is_ready(batcher.engine)
        response.status_code = 200 if ready else 503
        return {"name": name, "ready": ready}

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

    def add_file(path: str, name: str) -> None:
        @rest.get(path, include_in_schema=False)
        async def file() -> Response:
            return FileResponse(PAGE / name)

    for path, name in FILES.items():
        add_file(path, name)

    def check_model(name: str, version: str | None) -> None:
        try:
            infer.check_model(batcher.engine, name, version)
        except HTTPError as error:
            raise HTTPException(error.status, str(error)) from error

    add_bodies(rest)
    return rest


def _is_ready(engine: Engine) -> bool:
    try:
        engine.self_test()  # takes a tenth of a millisecond
    except ValueError as error:
        log.error("not ready: %s", error)
        return False
    return True


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _bad_request(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _server_error(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "internal error, see the log"}, 500)
