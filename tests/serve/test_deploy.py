"""The deployment files against the schemas that Triton and KServe publish."""

import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from kserve import models
from ruamel.yaml import YAML

from pipeline.core.files import ROOT
from serve.engine import Engine

# In a process of its own: kserve and tritonclient.grpc define the same protobuf names.
READ_CONFIG = """
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
print(json_format.MessageToJson(text_format.Parse(sys.stdin.read(), ModelConfig())))
"""


@pytest.fixture
def repository(model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    command = [sys.executable, "-m", "serve.deploy", str(folder), "--model", str(model)]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


def test_triton_reads_the_configuration_and_finds_the_file(repository: Path, model: Path) -> None:
    text = (repository / "batchnorm_mlp/config.pbtxt").read_text()
    config = json.loads(
        subprocess.check_output([sys.executable, "-c", READ_CONFIG], input=text, text=True)
    )
    assert (config["name"], config["platform"]) == ("batchnorm_mlp", "onnxruntime_onnx")
    image = {"name": "images", "dataType": "TYPE_UINT8", "dims": ["28", "28"]}
    assert config["input"] == [image]
    numbers = {"dataType": "TYPE_FP32", "dims": ["10"]}
    assert config["maxBatchSize"] == 1024
    assert "dynamicBatching" in config
    (warmup,) = config["modelWarmup"]
    zeros = {"dataType": "TYPE_UINT8", "dims": ["28", "28"], "zeroData": True}
    assert (warmup["batchSize"], warmup["inputs"]) == (1, {"images": zeros})
    for output, name in zip(config["output"], ("logits", "probabilities"), strict=True):
        labels = repository / "batchnorm_mlp" / output.pop("labelFilename")
        assert labels.read_text().split("\n") == [*"0123456789", ""]
        assert output == {"name": name} | numbers
    assert (repository / "batchnorm_mlp/1/model.onnx").read_bytes() == model.read_bytes()


def test_the_manifest_has_only_fields_that_kserve_knows(repository: Path, model: Path) -> None:
    manifest = YAML(typ="safe").load(repository / "inference_service.yaml")
    predictor = manifest["spec"]["predictor"]
    for kind, part in (
        (models.V1beta1InferenceService, manifest),
        (models.V1beta1InferenceServiceSpec, manifest["spec"]),
        (models.V1beta1PredictorSpec, predictor),
        (models.V1beta1ModelSpec, predictor["model"]),
        (models.V1beta1ModelFormat, predictor["model"]["modelFormat"]),
    ):
        assert set(part) <= set(kind.attribute_map.values())
    assert manifest["metadata"]["name"] == "batchnorm-mlp"
    assert predictor["model"]["modelFormat"]["name"] == "triton"
    version = Engine(model).version
    assert manifest["metadata"]["labels"] == {"model-version": version}
    assert predictor["model"]["storageUri"] == f"s3://models/mnist-batchnorm/{version}"


def test_the_packages_of_the_dockerfile_suffice_for_the_server(model: Path, tmp_path: Path) -> None:
    """Install what the Dockerfile installs, but into a virtual environment."""
    dockerfile = (ROOT / "serve/deploy/Dockerfile").read_text()
    packages = re.search(r"--constraint versions \\\n\s+(.+)", dockerfile)
    assert packages
    versions = tmp_path / "versions"
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    versions.write_text(
        "\n".join(line.removesuffix(" \\") for line in lines if "--hash" not in line)
    )
    venv.create(tmp_path / "environment", with_pip=False)
    python = tmp_path / "environment" / "bin" / "python"
    install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, "--constraint", str(versions), *packages[1].split()], check=True)
    check = (
        "import sys; from serve.model import read_sources; from serve.workers import load_engines;"
        "load_engines(read_sources(sys.argv[1:]))"
    )
    subprocess.run([python, "-c", check, str(model)], cwd=ROOT, check=True)
