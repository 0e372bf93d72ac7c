"""The certificate of an exported network: every backend compared with PyTorch."""

from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from models import NETWORKS
from pipeline.certify.backends import (
    deployed_logits,
    float64_logits,
    folded_logits,
    pytorch_logits,
)
from pipeline.certify.comparison import compare, finite, largest, table_row
from pipeline.certify.figure import draw_certificate
from pipeline.certify.rounding_bound import gap_bounds, linear_layers, margin_report
from pipeline.certify.stress_images import stress_images
from pipeline.core import files
from pipeline.core.params import CertifyParams, load_params
from pipeline.data.load import Dataset, load_dataset
from pipeline.export.build import build, load_network
from pipeline.export.fold import fold


def certify(
    network: nn.Module, model: Path, images: np.ndarray, labels: np.ndarray, params: CertifyParams
) -> dict[str, Any]:
    """Return the certificate of `model` as the deployment of `network`.

    images: the test images (N, 28, 28) uint8. On stress images, whose logits have no bound, the
    limit grows with an image's largest logit.
    """
    kinds = {"test": images, **stress_images(network)}
    everything = np.concatenate(list(kinds.values()))
    kind_of = np.repeat(list(kinds), [len(kind) for kind in kinds.values()])
    test = kind_of == "test"

    expected = pytorch_logits(network, everything)
    reference = float64_logits(network, everything)
    deployed = dict(deployed_logits(model, everything, params.request_size))
    backends = {
        "PyTorch, float32": expected,
        "folded, float64": folded_logits(network, everything),
        **deployed,
    }
    limit = params.max_abs_difference
    allowed = limit * np.maximum(1, np.abs(reference).max(axis=1, keepdims=True))  # (N, 1)
    allowed[test] = limit
    rows = []
    for kind in kinds:
        its = kind_of == kind
        for name, logits in backends.items():
            row = table_row(logits[its], expected[its], reference[its], allowed[its])
            rows.append({"images": kind, "backend": name, **row})

    on_test_images = {name: logits[test] for name, logits in deployed.items()}
    comparison = compare(expected[test], on_test_images, labels, limit)
    errors = {
        "pytorch": largest(expected[test] - reference[test]),
        "deployed": np.max([largest(x - reference[test]) for x in on_test_images.values()]),
    }
    return comparison | {
        "passed": comparison["passed"] and all(row["passed"] for row in rows),
        "float64_error": {name: finite(value) for name, value in errors.items()},
        "margin": margin(network, images, reference[test]),
        "backends": rows,
    }


def margin(network: nn.Module, images: np.ndarray, reference: np.ndarray) -> dict[str, Any] | None:
    """Return what `margin_report` does, or None if the network has no rounding bound.

    reference: PyTorch's logits (N, classes) float64.
    """
    layers = linear_layers(fold(network))
    if layers is None:
        return None
    answers = reference.argmax(axis=1)
    return margin_report(reference, answers, gap_bounds(layers, images, answers))


def figures(certificate: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a certificate that DVC compares.

    flipped: the most that any way of running the deployed network flips; max_diff: the largest
    difference of a logit from PyTorch's, None if it is not finite.
    """
    differences = certificate["max_abs_difference"].values()
    return {
        "passed": certificate["passed"],
        "images": certificate["images"],
        "flipped": max(certificate["flipped"].values()),
        "max_diff": None if None in differences else max(differences),
    }


def summary(certificate: dict[str, Any]) -> str:
    """Return a certificate in a sentence."""
    passed, images, flipped, difference = figures(certificate).values()
    largest_difference = "not finite" if difference is None else f"{difference:.2g}"
    return (
        f"the certificate {'passed' if passed else 'did not pass'}: {flipped} of {images:,} "
        f"answers differ from PyTorch's, largest difference of a logit {largest_difference}"
    )


def certify_exported(
    key: str, data: Dataset, params: CertifyParams, built: Future[bytes]
) -> dict[str, Any]:
    """Return the certificate of a network's exported file, and print it in a sentence.

    built: the file that `export` makes of the weights, to be compared byte by byte.
    """
    model = files.require(files.model_path(key), "export")
    certificate = certify(load_network(key), model, data.test_images, data.test_labels, params)
    certificate["same_bytes"] = built.result() == model.read_bytes()
    certificate["passed"] &= certificate["same_bytes"]
    certificate["model.sha256"] = files.sha256(model)
    certificate["weights.sha256"] = files.sha256(files.weights_path(key))
    print(f"{NETWORKS[key].title}: {summary(certificate)}")
    return certificate


def write_certificate() -> None:
    """Write the certificate of the deployed network, with those of the others in it, and its
    figure.

    Raises:
        ValueError: one of them does not pass.
    """
    params, data = load_params(), load_dataset()
    with ProcessPoolExecutor(1, get_context("spawn")) as other_core:
        built = {key: other_core.submit(build, key) for key in NETWORKS}
        found = {key: certify_exported(key, data, params.certify, built[key]) for key in NETWORKS}
    failed = [NETWORKS[key].title for key, its in found.items() if not its["passed"]]
    limit = params.certify.max_abs_difference
    certificate = found.pop(params.export.network)
    figure = draw_certificate(certificate["backends"], limit)
    files.write_atomically(files.CERTIFICATE_FIGURE, figure)
    files.write_json(files.CERTIFICATE_METRICS, figures(certificate))
    files.write_json(files.CERTIFICATE, certificate | {"other_networks": found})
    print(f"see {files.CERTIFICATE.relative_to(files.ROOT)}")
    if failed:
        raise ValueError(
            f"these networks do not answer as PyTorch does: {', '.join(failed)}. No logit of a "
            f"test image may differ by more than certify.max_abs_difference = {limit}, no answer "
            "may be flipped, and the file must be what export makes of the weights; see "
            f"{files.CERTIFICATE}"
        )
