"""The page that shows the networks' answers, and the document for people."""

import html
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, HTMLResponse

from serve.http.access import PAGES
from serve.model.drift import ROWS, TOLERANCE
from serve.model.engine import Engine
from serve.model.served import ServedModels

PAGE = Path(__file__).parents[1] / "page"
DIGITS = list("0123456789")


def task(engine: Engine) -> tuple[tuple[int, ...], list[str]] | None:
    """Return the shape of the images that a model classifies, (height, width) or (channels, height,
    width) with 1 or 3 channels, and the names of the classes; None if it does something else."""
    inputs = [(tensor.name, tensor.datatype.name) for tensor in engine.inputs]
    outputs = [tensor.shape[1:] for tensor in engine.outputs if tensor.name == "probabilities"]
    if not engine.batches or inputs != [("images", "UINT8")] or not outputs:
        return None
    shape, scores = engine.inputs[0].shape[1:], outputs[0]
    if len(shape) < 2 or shape[:-2] not in ((), (1,), (3,)) or len(scores) != 1:
        return None
    if -1 in shape + scores:
        return None
    (classes,) = scores
    return shape, engine.labels.get("probabilities", [str(label) for label in range(classes)])


def describe(models: ServedModels) -> dict[str, object]:
    """Return the values of the page's placeholders. The page shows the models with the same task as
    the first that has one."""
    tasks = [(engine.name, task(engine)) for engine in models.engines()]
    shown = next((found for _, found in tasks if found), None)
    shape, classes = shown or ((1, 1), [])
    height, width = shape[-2:]
    draws = shape[:-2] != (3,) and classes == DIGITS
    return {
        "title": "Draw a digit" if draws else "Classify an image",
        "input": "drawing" if draws else "file",
        "shape": ",".join(map(str, shape)),
        "size": f"{width} × {height} pixels" + ("" if shape[:-2] == (3,) else ", in grey"),
        "models": " ".join(name for name, found in tasks if shown and found == shown),
        "sampled": " ".join(model.engine.name for model in models.served if model.sample),
        "rows": ROWS,
        "tolerance": TOLERANCE,
    }


def add_page(rest: FastAPI, models: ServedModels) -> None:
    """Add the page and the document for people."""

    @rest.get("/", include_in_schema=False)
    async def page() -> Response:
        text = (PAGE / PAGES["/"]).read_text()
        for name, value in describe(models).items():
            text = text.replace(f"{{{{ {name} }}}}", html.escape(str(value)))
        return HTMLResponse(text)

    def add_file(path: str, name: str) -> None:
        @rest.get(path, include_in_schema=False)
        async def file() -> Response:
            return FileResponse(PAGE / name)

    for path, name in PAGES.items():
        if path != "/":
            add_file(path, name)
