"""Writes the cards of a registered model: the model's in Hugging Face's format, the data set's in
Croissant. They hold only what is recorded elsewhere too, so `trace` can write them again."""

import json
from pathlib import Path

from jinja2 import StrictUndefined, Template
from mlflow.entities import Run

from pipeline.core import files
from pipeline.data.dataset import ABOUT, CLASS_NAMES, CROISSANT, IMAGE_SHAPE, IMAGES

MODEL_CARD, DATA_CARD = "model_card.md", CROISSANT.name
TEXT = Path(__file__).with_name(MODEL_CARD)  # a Jinja2 template


def cards(certificate: bytes, run: Run, tags: dict[str, str]) -> dict[str, bytes]:
    """Return both cards of a version, by file name.

    certificate: the registered bytes; run: the training; tags: the version's.

    Raises:
        jinja2.UndefinedError: one of them lacks a value.
    """
    template = Template(
        TEXT.read_text(), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    text = template.render(
        about=ABOUT,
        class_names=CLASS_NAMES,
        images=IMAGES,
        shape=IMAGE_SHAPE,
        certificate=json.loads(certificate),
        certificate_sha256=files.sha256(certificate),
        params=run.data.params,
        metrics=run.data.metrics,
        run_id=run.info.run_id,
        tags=tags,
    )
    return {MODEL_CARD: text.encode(), DATA_CARD: CROISSANT.read_bytes()}
