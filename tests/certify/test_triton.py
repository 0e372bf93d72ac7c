"""The certificate's images, answered by a real Triton."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from models import BatchNormMLP
from pipeline.certify import triton
from pipeline.core import files
from pipeline.data.load import Dataset
from serve.deploy import triton as deployed

pytestmark = [pytest.mark.drill, pytest.mark.slow]


def test_triton_answers_as_pytorch_over_http_and_grpc(
    network: BatchNormMLP,
    model: Path,
    small_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try:
        deployed.install()
    except OSError as error:
        pytest.skip(f"{error}; python -m serve.deploy.triton would install it")
    artifacts = tmp_path / "artifacts"
    monkeypatch.setattr(files, "ARTIFACTS", artifacts)
    monkeypatch.setattr(files, "TRITON", artifacts / "triton.json")
    monkeypatch.setattr(triton, "load_dataset", lambda: small_dataset)
    path = files.weights_path("batchnorm_mlp")
    path.parent.mkdir(parents=True)
    save_file(network.state_dict(), path)
    files.write_atomically(files.model_path("batchnorm_mlp"), model.read_bytes())
    found = triton.compare_triton()
    assert found == json.loads(files.TRITON.read_text())
    assert found["passed"]
    assert found["images"] == len(small_dataset.test_images)
    assert found["flipped"] == {"triton_http": 0, "triton_grpc": 0}
    assert set(found["max_abs_difference"]) == {"triton_http", "triton_grpc"}
