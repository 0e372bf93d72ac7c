"""The routes besides inference, as a FastAPI application, and errors as {"error": "…"}."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.types import StatelessLifespan

from serve import __version__
from serve.http.openapi import INFERENCE, add_schemas, errors
from serve.model import descriptions
from serve.model.served import ServedModel, ServedModels, UnknownModelError
from serve.protocol.messages import INTERNAL_ERROR

NAME = "python -m serve"
# Triton's extensions of the protocol that work here.
EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration"]
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "Not ready"}}


def create_routes(models: ServedModels, lifespan: StatelessLifespan[FastAPI]) -> FastAPI:
    """Return the FastAPI application with all routes; `App` handles those for inference itself."""
    rest = FastAPI(
        title=NAME,
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        strict_content_type=False,  # clients send JSON by any name, or by none
        docs_url=None,  # those of FastAPI load scripts from a CDN
        redoc_url=None,
        responses=errors(401),
    )
    rest.add_exception_handler(HTTPException, _http_error)
    rest.add_exception_handler(RequestValidationError, _bad_request)
    rest.add_exception_handler(UnknownModelError, _not_found)
    rest.add_exception_handler(Exception, _server_error)
    add_server_routes(rest, models)

    def find(name: str) -> ServedModel:
        return models.find(name)

    def find_version(name: str, version: str) -> ServedModel:
        return models.find(name, version)

    add_model_routes(rest, "/v2/models/{name}", find)
    add_model_routes(rest, "/v2/models/{name}/versions/{version}", find_version)
    add_schemas(rest)
    return rest


def add_server_routes(rest: FastAPI, models: ServedModels) -> None:
    """Add the routes that concern all models."""

    @rest.get("/v2")
    async def server_metadata() -> dict[str, Any]:
        return {"name": NAME, "version": __version__, "extensions": EXTENSIONS}

    @rest.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @rest.get("/v2/health/ready", responses=NOT_READY)
    async def ready(response: Response) -> dict[str, bool]:
        ready = all([await model.is_ready() for model in models.served])
        response.status_code = 200 if ready else 503
        return {"live": True, "ready": ready}  # the specification's key, and KServe's

    @rest.post("/v2/repository/index", responses=errors(400, 413))
    async def repository_index(
        ready: Annotated[bool, Body(embed=True)] = False,
    ) -> list[dict[str, str]]:
        """List the models, or only those that are ready."""
        entries = [(model.engine, await model.is_ready()) for model in models.served]
        return [descriptions.index_entry(*entry) for entry in entries if entry[1] or not ready]

    @rest.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(models.metrics.exposition(), media_type="text/plain; version=0.0.4")


def add_model_routes(rest: FastAPI, path: str, find: Callable[..., ServedModel]) -> None:
    """Add the routes of each model; `find` returns the one that the path names."""

    @rest.get(path, responses=errors(404))
    async def model_metadata(model: Annotated[ServedModel, Depends(find)]) -> dict[str, Any]:
        return descriptions.model_metadata(model.engine)

    @rest.get(path + "/config", responses=errors(404))
    async def model_config(model: Annotated[ServedModel, Depends(find)]) -> dict[str, Any]:
        return descriptions.model_config(model.engine)

    @rest.get(path + "/ready", responses=errors(404) | NOT_READY)
    async def model_ready(
        model: Annotated[ServedModel, Depends(find)], response: Response
    ) -> dict[str, Any]:
        ready = await model.is_ready()
        response.status_code = 200 if ready else 503
        return {"name": model.engine.name, "ready": ready}

    @rest.post(path + "/infer", **INFERENCE)
    async def infer(model: Annotated[ServedModel, Depends(find)]) -> None:
        """Run the model.

        Raw tensors may follow the JSON, whose length is then in the header
        Inference-Header-Content-Length; with a length of 0, the body is the raw bytes of the only
        input. The body may be compressed: Content-Encoding gzip or deflate.
        """
        # App answers before FastAPI sees the request: this route exists for the document.
        raise NotImplementedError


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _not_found(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 404)


async def _bad_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    reasons = "; ".join(problem["msg"] for problem in error.errors())
    return JSONResponse({"error": f"the request cannot be read: {reasons}"}, 400)


async def _server_error(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": INTERNAL_ERROR}, 500)
