"""Adds to the OpenAPI document of /docs the bodies that protocol.py reads and writes."""

from typing import Any

import msgspec
from fastapi import FastAPI

from serve.protocol import Error, InferenceRequest, InferenceResponse

BODIES = [InferenceRequest, InferenceResponse, Error]
REFERENCE = "#/components/schemas/{name}"


def content(body: type) -> dict[str, Any]:
    """Return what OpenAPI calls the content: JSON of one of `BODIES`."""
    schema = {"$ref": REFERENCE.format(name=body.__name__)}
    return {"content": {"application/json": {"schema": schema}}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return a route's `responses` for these statuses, each with an `Error`."""
    return {status: {"description": "no answer"} | content(Error) for status in statuses}


INFERENCE: dict[str, Any] = {
    "openapi_extra": {"requestBody": {"required": True} | content(InferenceRequest)},
    "responses": {200: {"description": "the answer"} | content(InferenceResponse)}
    | errors(400, 404, 408, 413, 500, 503),
}


def add_bodies(rest: FastAPI) -> None:
    """Let the document define `BODIES`, which the routes refer to."""
    _, components = msgspec.json.schema_components(BODIES, ref_template=REFERENCE)
    make = rest.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        document["components"]["schemas"].update(components)
        return document

    rest.openapi = openapi  # type: ignore[method-assign]
