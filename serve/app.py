"""The HTTP side: routes, limits, and errors as {"error": "…"}. What they say is protocol.py's."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from serve import protocol
from serve.engine import Engine

MAX_BODY_BYTES = 16 * 2**20  # about 5,000 images as JSON


def create_app(engine: Engine) -> FastAPI:
    """Return the server of one model."""
    app = FastAPI(title="mnist-batchnorm", version=protocol.VERSION)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(protocol.RequestError, _bad_request)
    app.add_exception_handler(Exception, _server_error)

    def known_model(name: str, version: str = engine.version) -> None:
        if name != engine.name:
            raise HTTPException(404, f"there is no model {name!r}, only {engine.name!r}")
        if version != engine.version:
            raise HTTPException(404, f"there is no version {version!r}, only {engine.version!r}")

    @app.get("/v2")
    async def server_metadata() -> dict[str, Any]:
        return protocol.SERVER_METADATA

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.get("/v2/models/{name}", dependencies=[Depends(known_model)])
    @app.get("/v2/models/{name}/versions/{version}", dependencies=[Depends(known_model)])
    async def model_metadata() -> dict[str, Any]:
        return protocol.model_metadata(engine.name, engine.version)

    @app.get("/v2/models/{name}/ready", dependencies=[Depends(known_model)])
    @app.get("/v2/models/{name}/versions/{version}/ready", dependencies=[Depends(known_model)])
    async def model_ready() -> dict[str, Any]:
        return {"name": engine.name, "ready": True}

    @app.post("/v2/models/{name}/infer", dependencies=[Depends(known_model)])
    @app.post("/v2/models/{name}/versions/{version}/infer", dependencies=[Depends(known_model)])
    async def infer(body: Annotated[bytes, Depends(read_body)]) -> Response:
        content = await run_in_threadpool(answer, engine, body)
        return Response(content, media_type="application/json")

    return app


async def read_body(request: Request) -> bytes:
    """Read the body, giving up with 413 as soon as it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"a body may have {MAX_BODY_BYTES} bytes: send fewer images")
    return bytes(body)


def answer(engine: Engine, body: bytes) -> bytes:
    """Turn the body of a request into the body of its response."""
    request = protocol.decode_request(body)
    return protocol.encode_response(
        engine.name, engine.version, request, engine.infer(request.images)
    )


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _bad_request(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, HTTPStatus.BAD_REQUEST)


async def _server_error(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "internal error, see the log"}, HTTPStatus.INTERNAL_SERVER_ERROR)
