"""Writes the cards of a registered model: the model's in Hugging Face's format, the data set's in
Croissant. They hold only what is recorded elsewhere too, so `trace` can write them again."""

import json
from math import prod
from pathlib import Path
from string import Template
from typing import Any

from mlflow.entities import Run

from pipeline.core import files
from pipeline.data.dataset import (
    CLASSES,
    DATA,
    DIGESTS,
    IMAGE_SHAPE,
    IMAGES,
    NAME,
    RAW,
    pinned_md5,
)

MODEL_CARD, DATA_CARD = "model_card.md", "croissant.json"
TEXT = Path(__file__).with_name(MODEL_CARD)  # with $names where numbers go

# Source of the license: https://keras.io/api/datasets/mnist
ABOUT = {
    "description": "Handwritten digits, light on dark and centered, and their classes, 0 to 9",
    "url": "http://yann.lecun.com/exdb/mnist",
    "license": "https://creativecommons.org/licenses/by-sa/3.0/",
    "creator": [
        {"@type": "sc:Person", "name": name}
        for name in ("Yann LeCun", "Corinna Cortes", "Christopher J. C. Burges")
    ],
    "citeAs": "LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998",
    "datePublished": "1998",
    "version": "1.0.0",
}
# Croissant's own words. mlcroissant warns if the context lacks one, even one that is not used.
WORDS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject "
    "fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path recordSet "
    "references regex repeated replace samplingRate separator source subField transform"
)


def digest_tag(name: str) -> str:
    """Return the version's tag that has the SHA-256 of a card."""
    return f"{Path(name).stem}.sha256"


def cards(certificate: bytes, run: Run, tags: dict[str, str]) -> dict[str, bytes]:
    """Return both cards of a version, by file name; see `model_card`."""
    texts = {MODEL_CARD: model_card(certificate, run, tags), DATA_CARD: data_card()}
    return {name: text.encode() for name, text in texts.items()}


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


def data_card() -> str:
    """Return the metadata of the data set's files, as they are in data/.

    Source: Croissant 1.1, http://mlcommons.org/croissant/1.1
    """
    card = {
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": NAME,
        **ABOUT,
        "identifier": pinned_md5(),
        "distribution": [file_object(name) for name in DIGESTS],
        "recordSet": [record_set(name) for name in DIGESTS],
    }
    return json.dumps(card, indent=2) + "\n"


def context() -> dict[str, Any]:
    """Return the JSON-LD context, which gives each word its full name."""
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "name": {"@container": "@language"},
        "description": {"@container": "@language"},
        **{word: f"cr:{word}" for word in WORDS.split()},
    }


def file_object(name: str) -> dict[str, Any]:
    """Return the description of a file: in IDX, a header of int32, then a byte per value."""
    shape = (count(name), *IMAGE_SHAPE) if is_images(name) else (count(name),)
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": str(DATA.relative_to(files.ROOT) / RAW / name),
        "contentSize": f"{4 + 4 * len(shape) + prod(shape)} B",
        "encodingFormat": "application/octet-stream",
        "md5": DIGESTS[name],
    }


def record_set(name: str) -> dict[str, Any]:
    """Return the description of a file's content: images or labels."""
    array = {"isArray": True, "arrayShape": ",".join(map(str, IMAGE_SHAPE))}
    value = {
        "@type": "cr:Field",
        "@id": f"{name}/value",
        "name": "image" if is_images(name) else "label",
        "dataType": "cr:UInt8",
        "source": {"fileObject": {"@id": name}},
    }
    content = "images" if is_images(name) else f"labels, in {CLASSES} classes"
    return {
        "@type": "cr:RecordSet",
        "@id": f"{name}/records",
        "name": f"{name}/records",
        "description": f"{count(name):,} {content}",
        "field": [value | array if is_images(name) else value],
    }


def is_images(name: str) -> bool:
    """Return whether a file holds images, not labels."""
    return "images" in name


def count(name: str) -> int:
    """Return the number of images or labels in a file."""
    return IMAGES["training" if name.startswith("train") else "test"]
