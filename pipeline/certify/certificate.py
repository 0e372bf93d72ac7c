"""The certificate of an exported network: every backend compared with PyTorch."""

from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from models import NETWORKS
from pipeline.certify.backends import backends, pytorch_logits
from pipeline.certify.comparison import compare, totals, worst
from pipeline.certify.figure import draw_certificate
from pipeline.certify.rounding_bound import margin
from pipeline.certify.server import running_server
from pipeline.certify.stress_images import stress_images
from pipeline.core import files
from pipeline.core.params import CertifyParams, load_params
from pipeline.data.load import Dataset, load_dataset
from pipeline.export.build import build, load_network
from pipeline.export.graph import float64_logits


def certify(
    network: nn.Module, model: Path, images: np.ndarray, labels: np.ndarray, params: CertifyParams
) -> dict[str, Any]:
    """Return the certificate of `model` as the export of `network`.

    images: the test images (N, 28, 28) uint8.
    """
    rows = []
    with running_server(model) as server:
        for kind, x in {"test": images, **stress_images(network)}.items():
            expected, reference = pytorch_logits(network, x), float64_logits(network, x)
            answers = labels if kind == "test" else None
            for name, logits in backends(network, model, server, x, params.request_size):
                row = compare(logits, expected, reference, params.max_abs_difference, answers)
                rows.append({"images": kind, "backend": name, **row})
    pytorch, _folded, *exported = (row for row in rows if row["images"] == "test")
    return totals(pytorch, exported) | {
        "passed": all(row["passed"] for row in rows),
        "margin": margin(network, images),
        "backends": rows,
    }


def metrics(certificate: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a certificate that DVC compares.

    flipped: the most answers that any part flips; max_diff_millionths: the largest difference of a
    logit from PyTorch's, in millionths since DVC shows five decimals, None if it is not finite.
    """
    difference = worst(certificate["max_abs_difference"].values())
    return {
        "passed": certificate["passed"],
        "flipped": max(certificate["flipped"].values()),
        "max_diff_millionths": None if difference is None else round(1e6 * difference, 3),
    }


def summary(certificate: dict[str, Any]) -> str:
    """Return a certificate in a sentence."""
    passed, flipped, millionths = metrics(certificate).values()
    difference = "not finite" if millionths is None else f"{millionths / 1e6:.2g}"
    return (
        f"the certificate {'passed' if passed else 'did not pass'}: {flipped} of "
        f"{certificate['images']:,} answers differ from PyTorch's, largest difference of a logit "
        f"{difference}"
    )


def certify_exported(
    key: str, data: Dataset, params: CertifyParams, built: Future[bytes]
) -> dict[str, Any]:
    """Return the certificate of a network's exported file, and print it in a sentence.

    built: what `export` makes of the weights, to be compared with the file byte by byte.
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
    figure and metrics.

    Raises:
        ValueError: a network's certificate did not pass.
    """
    params, data = load_params(), load_dataset()
    with ProcessPoolExecutor(1, get_context("spawn")) as other_core:
        built = {key: other_core.submit(build, key) for key in NETWORKS}
        found = {key: certify_exported(key, data, params.certify, built[key]) for key in NETWORKS}
    failed = [NETWORKS[key].title for key, its in found.items() if not its["passed"]]
    limit = params.certify.max_abs_difference
    certificate = found.pop(params.export.network)
    files.write_png(files.CERTIFICATE_FIGURE, draw_certificate(certificate["backends"], limit))
    files.write_json(files.CERTIFICATE_METRICS, metrics(certificate))
    files.write_json(files.CERTIFICATE, certificate | {"other_networks": found})
    print(f"see {files.CERTIFICATE.relative_to(files.ROOT)}")
    if failed:
        raise ValueError(
            f"these networks do not answer as PyTorch does: {', '.join(failed)}. No logit of a "
            f"test image may differ by more than certify.max_abs_difference = {limit}, no answer "
            "may be flipped, and the file must be what export makes of the weights; see "
            f"{files.CERTIFICATE}"
        )
