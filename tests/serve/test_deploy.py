"""The deployment files against the schemas that Triton and KServe publish."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path
from string import Template

import httpx
import numpy as np
import onnxruntime as ort
import pytest
from kserve import models
from ruamel.yaml import YAML

from pipeline.core.files import ROOT
from serve.deploy import __main__ as deploy
from serve.model.engine import Engine
from tests.serve.process import INFER, launched, raw_request

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
    version = Engine.read(model).version
    assert manifest["metadata"]["labels"] == {"model-version": version}
    assert predictor["model"]["storageUri"] == f"s3://models/mnist-batchnorm/{version}"


def test_the_network_of_params_yaml_is_the_default(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = tmp_path / "artifacts" / "export"
    exported.mkdir(parents=True)
    (exported / "other.onnx").write_bytes(b"not to be read")
    shutil.copy(model, exported / "wanted.onnx")
    (tmp_path / "params.yaml").write_text("export:\n  network: wanted\n")
    monkeypatch.setattr(deploy, "PROJECT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["serve.deploy", str(tmp_path / "repository")])
    deploy.main()
    written = tmp_path / "repository/batchnorm_mlp/1/model.onnx"
    assert written.read_bytes() == model.read_bytes()


def instructions(dockerfile: Path) -> list[tuple[str, ...]]:
    """Return the instructions of a Dockerfile, each with its arguments."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line]


def copy(source: Path, destination: Path) -> None:
    """Copy a file, or the content of a folder, as Docker does."""
    if source.is_dir():
        shutil.copytree(source, destination)
    else:
        shutil.copy(source, destination)


def build(
    folder: Path, model: Path, environment: dict[str, str], root: Path = ROOT
) -> tuple[list[str], Path, signal.Signals]:
    """Run the steps of the Dockerfile below a folder instead of in an image; return the command of
    the server, its working folder and its stop signal."""
    arguments = {"MODEL": str(model)}  # as by --build-arg
    command, work, stop = [], folder, signal.SIGTERM
    for name, rest in instructions(ROOT / "serve/deploy/Dockerfile"):
        match name:
            case "WORKDIR":
                work = folder / rest.lstrip("/")
                work.mkdir()
            case "ARG":
                arguments.setdefault(*rest.split("="))
            case "COPY":
                source, destination = Template(rest).substitute(arguments).split()
                copy(root / source, work / destination)
            case "RUN":
                subprocess.run(["sh", "-c", rest], cwd=work, env=environment, check=True)
            case "STOPSIGNAL":
                stop = signal.Signals[rest]
            case "ENTRYPOINT":
                command = json.loads(rest)
            case _:
                assert name in ("FROM", "USER", "EXPOSE")
    return command, work, stop


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_give_a_server_that_answers_and_stops(
    model: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "python", with_pip=True)
    environment = os.environ | {"PATH": f"{tmp_path / 'python/bin'}:{os.environ['PATH']}"}
    command, work, stop = build(tmp_path, model, environment)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    body, headers = raw_request(images)
    with launched([*command, "--host", "127.0.0.1"], work, environment) as (process, address):
        response = httpx.post(address + INFER, content=body, headers=headers)
        process.send_signal(stop)
        assert process.wait(20) == 0
    (logits,) = response.json()["outputs"]
    (expected,) = ort.InferenceSession(model).run(["logits"], {"images": images})
    assert np.allclose(logits["data"], expected.ravel(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_dockerfile_refuses_a_package_with_another_hash_than_the_locks(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    head, name, rest = (ROOT / "requirements.lock").read_text().partition("\nhttptools==")
    hashes, via, rest = rest.partition("# via")
    changed = re.sub("sha256:.{8}", "sha256:00000000", hashes)
    (tmp_path / "requirements.lock").write_text(head + name + changed + via + rest)
    venv.create(tmp_path / "python", with_pip=True)
    environment = os.environ | {"PATH": f"{tmp_path / 'python/bin'}:{os.environ['PATH']}"}
    with pytest.raises(subprocess.CalledProcessError):
        build(tmp_path, model, environment, tmp_path)
    assert "Hash mismatch for `httptools==" in capfd.readouterr().err
