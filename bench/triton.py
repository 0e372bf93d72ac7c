"""Compares the answers of a real Triton with PyTorch's: `python -m bench.triton`.

Triton serves the deployed network, over HTTP and gRPC. The comparison is printed, and written to
artifacts/triton.json; the certificate stays as it is.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

from bench.peers import triton
from bench.peers.triton import free_port
from pipeline.certify.backends import in_batches, pytorch_logits, served_logits
from pipeline.certify.certificate import summary
from pipeline.certify.comparison import compare, totals
from pipeline.certify.server import stopping
from pipeline.core import files
from pipeline.core.inference import ENCODINGS
from pipeline.core.params import load_params
from pipeline.data.load import load_dataset
from pipeline.export.build import load_network
from pipeline.export.graph import float64_logits

COMPARISON = files.ARTIFACTS / "triton.json"


@contextmanager
def running_triton(model: Path) -> Iterator[tuple[httpx.Client, InferenceServerClient]]:
    """Run Triton on the repository that `serve.deploy` makes of a model, and yield its clients.

    Raises:
        ConnectionError: it was not ready within a minute, or failed a request.
        OSError: Triton cannot be installed.
    """
    http_port, grpc_port = free_port(), free_port()
    address = f"http://127.0.0.1:{http_port}"
    patient = httpx.HTTPTransport(retries=8)  # to connect, the last one after a minute
    with TemporaryDirectory(prefix="triton-") as repository:
        deploy = [sys.executable, "-m", "serve.deploy", repository, "--model", str(model)]
        subprocess.run(deploy, check=True, cwd=files.ROOT, stdout=subprocess.DEVNULL)
        with (
            stopping(triton.start(Path(repository), http_port, grpc_port)),
            httpx.Client(base_url=address, timeout=60, transport=patient) as http,
            InferenceServerClient(f"127.0.0.1:{grpc_port}") as grpc,
        ):
            http.get("/v2/health/ready").raise_for_status()
            yield http, grpc


def grpc_logits(client: InferenceServerClient, model: str, images: np.ndarray) -> np.ndarray:
    """Return Triton's logits by gRPC, float32."""
    tensor = InferInput("images", images.shape, "UINT8")
    tensor.set_data_from_numpy(images)
    result = client.infer(model, [tensor], outputs=[InferRequestedOutput("logits")])
    return result.as_numpy("logits")


def compare_triton() -> None:
    """Write the comparison for the test images.

    Raises:
        ValueError: it does not pass.
    """
    params, data = load_params(), load_dataset()
    key, model, size = params.export.network, params.export.model, params.certify.request_size
    images, network = data.test_images, load_network(key)
    backends = {"PyTorch": pytorch_logits(network, images)}
    with running_triton(files.require(model, "export")) as (http, grpc):
        for name in ENCODINGS:
            backends[f"triton_http, {name}"] = served_logits(http, key, name, images, size)
        backends["triton_grpc"] = in_batches(lambda x: grpc_logits(grpc, key, x), images, size)
    expected, reference = backends["PyTorch"], float64_logits(network, images)
    limit = params.certify.max_abs_difference
    pytorch, *rows = (
        {"backend": name, **compare(logits, expected, reference, limit, data.test_labels)}
        for name, logits in backends.items()
    )
    found = totals(pytorch, rows)
    found["model.sha256"] = files.sha256(model)
    files.write_json(COMPARISON, found)
    print(f"Triton: {summary(found)}; see {COMPARISON}")
    if not found["passed"]:
        raise ValueError(f"Triton does not answer as PyTorch does: see {COMPARISON}")


def main() -> None:
    """Compare the answers, and exit with a message if they differ or Triton cannot be had."""
    argparse.ArgumentParser(prog="python -m bench.triton", description=__doc__).parse_args()
    try:
        compare_triton()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
