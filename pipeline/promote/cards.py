"""Writes the cards of a registered model: the model's in Hugging Face's format, the data set's in
Croissant. They hold only what is recorded elsewhere too, so `trace` can write them again."""

import json
from pathlib import Path
from string import Template
from typing import Any

from mlflow.entities import Run

from pipeline.core import files
from pipeline.data.dataset import ABOUT, CLASS_NAMES, CLASSES, CROISSANT, IMAGE_SHAPE, IMAGES, NAME

MODEL_CARD, DATA_CARD = "model_card.md", CROISSANT.name
TEXT = Path(__file__).with_name(MODEL_CARD)  # with $names where numbers go


def digest_tag(name: str) -> str:
    """Return the version's tag that has the SHA-256 of a card."""
    return f"{Path(name).stem}.sha256"


def cards(certificate: bytes, run: Run, tags: dict[str, str]) -> dict[str, bytes]:
    """Return both cards of a version, by file name; see `model_card`."""
    text = model_card(certificate, run, tags)
    return {MODEL_CARD: text.encode(), DATA_CARD: CROISSANT.read_bytes()}


def model_card(certificate: bytes, run: Run, tags: dict[str, str]) -> str:
    """Return the model card of a version.

    certificate: the registered bytes; run: the training; tags: the version's.

    Raises:
        KeyError: one of them lacks a value.
    """
    content = json.loads(certificate)
    params, metrics = run.data.params, run.data.metrics
    height, width = IMAGE_SHAPE
    return Template(TEXT.read_text()).substitute(
        data=NAME,
        dataset=NAME.lower(),
        description=ABOUT["description"],
        citation=ABOUT["citeAs"],
        data_license=ABOUT["license"],
        **{split: f"{images:,}" for split, images in IMAGES.items()},
        network=params["network"],
        parameters="\n".join(f"| {name} | {params[name]} |" for name in sorted(params)),
        test_accuracy=metrics["test_accuracy"],
        accuracy=f"{metrics['test_accuracy']:.2%}",
        test_loss=f"{metrics['test_loss']:.4f}",
        images=f"{content['images']:,}",
        passed="passed" if content["passed"] else "did not pass",
        backends=backends(content),
        proven=proven(content),
        height=height,
        width=width,
        classes=CLASSES,
        class_names=", ".join(CLASS_NAMES),
        model=content["model.sha256"],
        weights=content["weights.sha256"],
        certificate=files.sha256(certificate),
        data_md5=tags["data.md5"],
        commit=tags["git.commit"],
        dirty="" if tags["git.dirty"] == "false" else ", with uncommitted changes",
        run_id=run.info.run_id,
    )


def backends(certificate: dict[str, Any]) -> str:
    """Return the rows of the certificate's backends."""
    rows = []
    for name, flipped in certificate["flipped"].items():
        difference = certificate["max_abs_difference"][name]
        largest = "not finite" if difference is None else f"{difference:.2g}"
        rows.append(f"| `{name}` | {certificate['accuracy'][name]:.2%} | {flipped} | {largest} |")
    return "\n".join(rows)


def proven(certificate: dict[str, Any]) -> str:
    """Return a sentence on the answers that rounding cannot change."""
    margin = certificate["margin"]
    if margin is None:
        return "There is no bound on what rounding can do to the answers of this network."
    return (
        f"For {margin['proven_images']:,} of these images, it is proven that rounding to float32 "
        "cannot change the answer, in whatever order a library adds the products."
    )
