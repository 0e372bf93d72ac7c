"""The certificate of an exported network: every backend compared with PyTorch."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from models import NETWORKS
from pipeline.certify.backends import Exported, backends, pytorch_logits
from pipeline.certify.comparison import compare, totals, worst
from pipeline.certify.figure import draw_certificate
from pipeline.certify.rounding_bound import margin
from pipeline.certify.server import running_server
from pipeline.certify.stress_images import stress_images
from pipeline.core import files
from pipeline.core.params import CertifyParams, load_params
from pipeline.data.load import Dataset, load_dataset
from pipeline.export.build import is_built, load_network
from pipeline.export.fold import fold
from pipeline.export.graph import float64_logits
from serve.http.bodies import MAX_BODY_BYTES

JSON_PIXEL_BYTES = 4  # at most: `255,`


def certify(
    exported: Exported,
    data: Dataset,
    params: CertifyParams,
    more: dict[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Return the certificate of an exported network on the test images, on stress images and on
    `more` images (N, *IMAGE_SHAPE) uint8 by their kind.

    A request has `params.request_size` images, or fewer if the server's limit allows no more.
    """
    allowed = (MAX_BODY_BYTES - 1024) // (JSON_PIXEL_BYTES * data.test_images[0].size)
    request_size = min(params.request_size, allowed)
    rows, (network, folded, *_) = [], exported
    kinds = {"test": data.test_images, **stress_images(network), **(more or {})}
    for kind, images in kinds.items():
        expected, reference = pytorch_logits(network, images), float64_logits(network, images)
        answers = data.test_labels if kind == "test" else None
        for name, logits in backends(exported, images, request_size):
            row = compare(logits, expected, reference, params.max_abs_difference, answers)
            rows.append({"images": kind, "backend": name, **row})
    pytorch, _folded, *others = (row for row in rows if row["images"] == "test")
    return totals(pytorch, others) | {
        "passed": all(row["passed"] for row in rows),
        "margin": margin(network, folded, data.test_images),
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


def certificates(data: Dataset, params: CertifyParams) -> dict[str, dict[str, Any]]:
    """Return the certificate of each network's exported file."""
    models = {key: files.require(files.model_path(key), "export") for key in NETWORKS}
    named = [f"{key}={model}" for key, model in models.items()]  # whatever the files say
    with running_server(*named) as server, ThreadPoolExecutor(os.cpu_count()) as threads:
        networks = {key: load_network(key) for key in NETWORKS}
        exported = [  # folded one after the other: `torch.fx` cannot trace in several threads
            Exported(networks[key], fold(networks[key]), models[key], server) for key in NETWORKS
        ]
        certify_one = partial(certify, data=data, params=params)
        found = dict(zip(NETWORKS, threads.map(certify_one, exported), strict=True))
    for key, certificate in found.items():
        certificate["from_weights"] = is_built(key, models[key].read_bytes())
        certificate["passed"] &= certificate["from_weights"]
        certificate["model.sha256"] = files.sha256(models[key])
        certificate["weights.sha256"] = files.sha256(files.weights_path(key))
    return found


def write_certificate() -> None:
    """Write the certificate of the deployed network, with those of the others in it, and its
    figure and metrics.

    Raises:
        ValueError: a network's certificate did not pass.
    """
    params = load_params()
    found = certificates(load_dataset(), params.certify)
    for key, certificate in found.items():
        print(f"{NETWORKS[key].title}: {summary(certificate)}")
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
