"""Completes the OpenAPI document: the bodies of messages.py, raw tensors and the bearer token."""

from functools import cache
from typing import Any

import msgspec
from fastapi import FastAPI

from serve.http.access import OPEN_PATHS
from serve.protocol.messages import Error, InferenceRequest, InferenceResponse

BODIES = [InferenceRequest, InferenceResponse, Error]
REFERENCE = "#/components/schemas/{name}"
RAW = {
    "application/octet-stream": {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": "JSON, as long as Inference-Header-Content-Length, then raw tensors",
        }
    }
}


def content(body: type) -> dict[str, Any]:
    """Return the OpenAPI `content` for JSON of one of `BODIES`."""
    return {"application/json": {"schema": {"$ref": REFERENCE.format(name=body.__name__)}}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return a route's `responses` for these statuses, each an `Error`."""
    return {status: {"description": "Error", "content": content(Error)} for status in statuses}


INFERENCE: dict[str, Any] = {
    # The raw form of a request is in the description alone: with two types of body,
    # openapi-python-client generates code that cannot be imported.
    "openapi_extra": {"requestBody": {"required": True, "content": content(InferenceRequest)}},
    "responses": {
        200: {"description": "Inference response", "content": content(InferenceResponse) | RAW}
    }
    | errors(400, 404, 408, 413, 415, 500, 503),
}


def add_schemas(rest: FastAPI) -> None:
    """Add the schemas that the routes reference and the token, and remove what is never sent."""
    _, components = msgspec.json.schema_components(BODIES, ref_template=REFERENCE)
    make = rest.openapi

    @cache  # as FastAPI does
    def openapi() -> dict[str, Any]:
        document = make()
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):  # an invalid request gets 400
            schemas.pop(name)
        schemas.update(components)
        bearer = {"type": "http", "scheme": "bearer", "description": "SERVE_TOKEN, if it is set"}
        document["components"]["securitySchemes"] = {"token": bearer}
        for path, methods in document["paths"].items():
            for route in methods.values():
                route["responses"].pop("422", None)
                if path in OPEN_PATHS:
                    route["responses"].pop("401", None)
                else:
                    route["security"] = [{"token": []}, {}]
        return document

    rest.openapi = openapi  # type: ignore[method-assign]
