"""The routes besides inference, as a FastAPI application, and errors as {"error": "…"}."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import StatelessLifespan

from serve import descriptions
from serve.access import PAGES
from serve.batching import Batcher
from serve.models import Models
from serve.reader import HTTPError
from serve.schema import INFERENCE, add_schemas, errors

PAGE = Path(__file__).parent / "page"
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "Not ready"}}


def create_routes(models: Models, lifespan: StatelessLifespan[FastAPI]) -> FastAPI:
    """Return the FastAPI application with all routes; `App` handles those for inference itself."""
    rest = FastAPI(
        title=descriptions.NAME,
        version=descriptions.VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        strict_content_type=False,  # clients send JSON by any name, or by none
        docs_url=None,  # those of FastAPI load scripts from a CDN
        redoc_url=None,
        responses=errors(401),
    )
    rest.add_exception_handler(StarletteHTTPException, _http_error)
    rest.add_exception_handler(RequestValidationError, _bad_request)
    rest.add_exception_handler(Exception, _server_error)
    add_server_routes(rest, models)

    def find(name: str) -> Batcher:
        return found(models, name, None)

    def find_version(name: str, version: str) -> Batcher:
        return found(models, name, version)

    add_model_routes(rest, "/v2/models/{name}", find)
    add_model_routes(rest, "/v2/models/{name}/versions/{version}", find_version)
    add_page(rest, models)
    add_schemas(rest)
    return rest


def found(models: Models, name: str, version: str | None) -> Batcher:
    """Return the batcher of a model, or raise FastAPI's error (404)."""
    try:
        return models.find(name, version)
    except HTTPError as error:
        raise HTTPException(error.status, str(error)) from error


def add_server_routes(rest: FastAPI, models: Models) -> None:
    """Add the routes that concern all models."""

    @rest.get("/v2")
    async def server_metadata() -> dict[str, Any]:
        return descriptions.server_metadata()

    # The specification and KServe disagree on the key of each response: both have both keys.
    @rest.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True, "ready": all(engine.is_ready() for engine in models.engines())}

    @rest.get("/v2/health/ready", responses=NOT_READY)
    async def ready(response: Response) -> dict[str, bool]:
        ready = all(engine.is_ready() for engine in models.engines())
        response.status_code = 200 if ready else 503
        return {"live": True, "ready": ready}

    @rest.post("/v2/repository/index", responses=errors(400, 413))
    async def repository_index(
        ready: Annotated[bool, Body(embed=True)] = False,
    ) -> list[dict[str, str]]:
        """List the models, or only those that are ready."""
        states = descriptions.index(models.engines())
        return [state for state in states if not ready or state["state"] == "READY"]

    @rest.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(models.metrics.exposition(), media_type="text/plain; version=0.0.4")


def add_model_routes(rest: FastAPI, path: str, find: Callable[..., Batcher]) -> None:
    """Add the routes of each model; `find` returns the one that the path names."""

    @rest.get(path, responses=errors(404))
    async def model_metadata(batcher: Annotated[Batcher, Depends(find)]) -> dict[str, Any]:
        return descriptions.model_metadata(batcher.engine)

    @rest.get(path + "/config", responses=errors(404))
    async def model_config(batcher: Annotated[Batcher, Depends(find)]) -> dict[str, Any]:
        return descriptions.model_config(batcher.engine)

    @rest.get(path + "/ready", responses=errors(404) | NOT_READY)
    async def model_ready(
        batcher: Annotated[Batcher, Depends(find)], response: Response
    ) -> dict[str, Any]:
        ready = batcher.engine.is_ready()
        response.status_code = 200 if ready else 503
        return {"name": batcher.engine.name, "ready": ready}

    @rest.post(path + "/infer", **INFERENCE)
    async def infer(batcher: Annotated[Batcher, Depends(find)]) -> None:
        """Run the model.

        Raw tensors may follow the JSON, whose length is then in the header
        Inference-Header-Content-Length; with a length of 0, the body is the raw bytes of the only
        input. The body may be compressed: Content-Encoding gzip or deflate.
        """
        # App answers before FastAPI sees the request: this route exists for the document.
        raise NotImplementedError


def add_page(rest: FastAPI, models: Models) -> None:
    """Add the page to draw a digit on, and the document for people."""

    @rest.get("/", include_in_schema=False)
    async def page() -> Response:
        text = (PAGE / PAGES["/"]).read_text()
        names = " ".join(engine.name for engine in models.engines())
        return HTMLResponse(text.replace("{{ models }}", html.escape(names)))

    def add_file(path: str, name: str) -> None:
        @rest.get(path, include_in_schema=False)
        async def file() -> Response:
            return FileResponse(PAGE / name)

    for path, name in PAGES.items():
        if path != "/":
            add_file(path, name)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _bad_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    reasons = "; ".join(problem["msg"] for problem in error.errors())
    return JSONResponse({"error": f"the request cannot be read: {reasons}"}, 400)


async def _server_error(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "internal error, see the log"}, 500)
