"""The certificate's images, answered by a real Triton."""

import json
from pathlib import Path

import pytest

from bench.peers import triton
from tests.support import Run


@pytest.mark.slow
def test_triton_answers_all_test_images_as_pytorch_over_http_and_grpc(
    run: Run, project: Path
) -> None:
    # In a process of its own: kserve and tritonclient.grpc define the same protobuf names.
    try:
        triton.install()
    except OSError as error:
        pytest.skip(f"{error}; python -m bench.peers.triton would install it")
    run("dvc repro certify")
    output = run("python -m bench.triton").stdout
    assert "Triton: the certificate passed: 0 of 10,000 answers differ from PyTorch's" in output
    found = json.loads((project / "artifacts/triton.json").read_text())
    assert found["passed"]
    assert found["images"] == 10_000
    assert found["flipped"] == {"triton_http": 0, "triton_grpc": 0}
    assert set(found["max_abs_difference"]) == {"triton_http", "triton_grpc"}
