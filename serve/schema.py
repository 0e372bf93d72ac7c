"""Adds the request and response bodies of protocol.py to the OpenAPI document of /docs."""

from typing import Any

import msgspec
from fastapi import FastAPI

from serve.protocol import Error, InferenceRequest, InferenceResponse

BODIES = [InferenceRequest, InferenceResponse, Error]
REFERENCE = "#/components/schemas/{name}"


def content(body: type) -> dict[str, Any]:
    """Return the OpenAPI `content` for JSON of one of `BODIES`."""
    schema = {"$ref": REFERENCE.format(name=body.__name__)}
    return {"content": {"application/json": {"schema": schema}}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return a route's `responses` for these statuses, each an `Error`."""
    return {status: {"description": "Error"} | content(Error) for status in statuses}


INFERENCE: dict[str, Any] = {
    "openapi_extra": {"requestBody": {"required": True} | content(InferenceRequest)},
    "responses": {200: {"description": "Inference response"} | content(InferenceResponse)}
    | errors(400, 404, 408, 413, 500, 503),
}


def add_bodies(rest: FastAPI) -> None:
    """Add the schemas of `BODIES`, which the routes reference, to the document."""
    _, components = msgspec.json.schema_components(BODIES, ref_template=REFERENCE)
    make = rest.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        document["components"]["schemas"].update(components)
        return document

    rest.openapi = openapi  # type: ignore[method-assign]
