"""The routes of a model's sample: to read it, to empty it and to label its rows."""

from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Response
from starlette.exceptions import HTTPException

from serve.http.bodies import Budget
from serve.http.openapi import errors
from serve.model.sample import Sample
from serve.model.served import ServedModel, ServedModels

SAFETENSORS = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
ROWS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The rows in the format of safetensors", "content": SAFETENSORS}
}


def add_sample_routes(rest: FastAPI, models: ServedModels, budget: Budget) -> None:
    """Add the routes; the budget has room for the samples that are sent."""

    def find(name: str) -> ServedModel:
        return models.find(name)

    def find_sample(model: Annotated[ServedModel, Depends(find)]) -> Sample:
        if model.sample:
            return model.sample
        raise HTTPException(
            404,
            f"{model.engine.name!r} is not sampled: start the server with --sample ROWS, and with "
            "a model whose first axis is a batch and whose other axes have fixed sizes",
        )

    path = "/v2/models/{name}"

    @rest.get(path + "/sample", response_class=Response, responses=ROWS | errors(404, 503))
    async def sample(sample: Annotated[Sample, Depends(find_sample)]) -> Response:
        """Return served rows, drawn at random: inputs, outputs, times of arrival and labels."""
        budget.check(sample.max_bytes)
        return Response(sample.read(), media_type="application/octet-stream")

    @rest.delete(path + "/sample", status_code=204, responses=errors(404))
    async def empty(sample: Annotated[Sample, Depends(find_sample)]) -> None:
        """Empty the sample and begin again."""
        sample.empty()

    @rest.post(path + "/labels", status_code=204, responses=errors(400, 404, 413))
    async def label(
        model: Annotated[ServedModel, Depends(find)],
        sample: Annotated[Sample, Depends(find_sample)],
        request: Annotated[str, Body(alias="id", description="of the inference request")],
        label: Annotated[str, Body(description="the name of the class")],
        row: Annotated[int, Body(ge=0, description="in the request")] = 0,
    ) -> None:
        """Label a row of the sample with its true class."""
        classes = model.engine.classes
        if label not in classes:
            raise HTTPException(400, f"no class {label!r}: this model has {classes}")
        if not sample.label(request, row, classes.index(label)):
            raise HTTPException(404, f"row {row} of request {request!r} is not in the sample")
