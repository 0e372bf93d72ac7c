"""Proves that the deployed network answers as PyTorch does: `python -m pipeline.certify`.

Reads the weights, model.onnx and the 10,000 test images; starts `python -m serve` on a free port;
writes artifacts/certificate.json and its picture, and fails if an answer differs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from models import BatchNormMLP
from pipeline.artifacts import (
    CERTIFICATE,
    CERTIFICATE_PICTURE,
    MODEL,
    require,
    sha256,
    weights_path,
    write_whole,
)
from pipeline.data import load_mnist
from pipeline.export import build, fold, load_network
from pipeline.figure import draw_certificate
from pipeline.legs import (
    deployed_logits,
    float64_logits,
    folded_logits,
    hard_images,
    pytorch_logits,
    running_server,
)
from pipeline.margin import gap_bounds, margin_report
from pipeline.params import CertifyParams, load_params


def compare(
    expected: np.ndarray, legs: dict[str, np.ndarray], labels: np.ndarray, limit: float
) -> dict[str, Any]:
    """Compare the logits (N, 10) of each leg of the deployment with PyTorch's.

    Returns:
        The certificate: it passes if no logit differs by more than `limit` (NaN does) and no
        answer, the class of the largest logit, is flipped. A part of the deployment, the name of
        its legs up to a comma, is as good as the worst of them.
    """
    answers = expected.argmax(axis=1)
    accuracy: dict[str, float] = {"pytorch": float((answers == labels).mean())}
    differences: dict[str, float] = {}
    flipped: dict[str, int] = {}
    for leg, logits in legs.items():
        part = leg.partition(",")[0]
        leg_answers = logits.argmax(axis=1)
        right = float((leg_answers == labels).mean())
        accuracy[part] = min(right, accuracy.get(part, 1.0))
        differences[part] = np.maximum(differences.get(part, 0.0), largest(logits - expected))
        flipped[part] = max(flipped.get(part, 0), int((leg_answers != answers).sum()))
    return {
        "passed": all(d <= limit for d in differences.values()) and not any(flipped.values()),
        "images": len(expected),
        "accuracy": accuracy,
        "max_abs_difference": {part: finite(value) for part, value in differences.items()},
        "flipped": flipped,
    }


def largest(differences: np.ndarray) -> float:
    """Return the largest absolute value, NaN if any is."""
    return float(np.abs(differences).max())


def finite(value: float) -> float | None:
    """Return what JSON can hold: None for NaN and infinity."""
    return float(value) if np.isfinite(value) else None


def table_row(
    logits: np.ndarray, expected: np.ndarray, truth: np.ndarray, allowed: np.ndarray
) -> dict[str, Any]:
    """Return how one leg's logits (N, 10) differ on one kind of images.

    expected: PyTorch's in float32; truth: in float64; allowed: (N, 1), by image.
    """
    return {
        "count": len(logits),
        "max_abs_difference": finite(largest(logits - expected)),
        "float64_error": finite(largest(logits - truth)),
        "flipped": int((logits.argmax(axis=1) != expected.argmax(axis=1)).sum()),
        "passed": bool((np.abs(logits - expected) <= allowed).all()),
    }


def certify(
    network: BatchNormMLP,
    model: Path,
    images: np.ndarray,
    labels: np.ndarray,
    params: CertifyParams,
) -> dict[str, Any]:
    """Return the certificate of `model` as the deployment of `network`, on these images and on hard
    ones, whose logits have no bound: there the limit grows with the largest of an image."""
    kinds = {"test": images, **hard_images(network)}
    asked = np.concatenate(list(kinds.values()))
    of_kind = np.repeat(list(kinds), [len(kind) for kind in kinds.values()])
    test = of_kind == "test"

    expected, truth = pytorch_logits(network, asked), float64_logits(network, asked)
    with running_server(model) as client:
        deployed = deployed_logits(model, client, asked, params.request_size)
    legs = {"PyTorch, float32": expected, "folded, float64": folded_logits(network, asked)}
    legs |= deployed

    limit = params.max_abs_difference
    allowed = limit * np.maximum(1, np.abs(truth).max(axis=1, keepdims=True))  # (N, 1)
    allowed[test] = limit
    rows = [
        {"images": kind, "leg": leg}
        | table_row(*(values[of_kind == kind] for values in (logits, expected, truth, allowed)))
        for kind in kinds
        for leg, logits in legs.items()
    ]
    on_test_images = {leg: logits[test] for leg, logits in deployed.items()}
    certificate = compare(expected[test], on_test_images, labels, limit)
    error = {
        "pytorch": largest(expected[test] - truth[test]),
        "deployed": np.max([largest(logits - truth[test]) for logits in on_test_images.values()]),
    }
    answers = truth[test].argmax(axis=1)
    bounds = gap_bounds(fold(network), images, answers)
    return certificate | {
        "passed": certificate["passed"] and all(row["passed"] for row in rows),
        "float64_error": {who: finite(value) for who, value in error.items()},
        "margin": margin_report(truth[test], answers, bounds),
        "legs": rows,
    }


def main() -> None:
    """Write the certificate and end with status 1 if it did not pass."""
    try:
        params = load_params().certify
        mnist = load_mnist()
        model = require(MODEL, "export")
        certificate = certify(load_network(), model, mnist.test_images, mnist.test_labels, params)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        sys.exit(f"error: {error}")
    certificate["same_bytes"] = build() == model.read_bytes()
    certificate["passed"] &= certificate["same_bytes"]
    certificate["model_sha256"] = sha256(model)
    certificate["weights_sha256"] = sha256(weights_path("batchnorm_mlp"))
    rows = certificate["legs"]
    write_whole(CERTIFICATE, json.dumps(certificate, indent=2, allow_nan=False).encode())
    write_whole(CERTIFICATE_PICTURE, draw_certificate(rows, params.max_abs_difference))
    print(json.dumps(certificate | {"legs": f"{len(rows)} rows"}, indent=2))
    if not certificate["passed"]:
        sys.exit(
            f"error: the deployed network does not answer as PyTorch does: no logit may differ by "
            f"more than certify.max_abs_difference = {params.max_abs_difference}, and no answer "
            f"may be flipped; and the file must be what export makes of the weights; see "
            f"{CERTIFICATE}"
        )


if __name__ == "__main__":
    main()
