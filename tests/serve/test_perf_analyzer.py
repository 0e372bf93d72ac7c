"""Triton's perf_analyzer, unmodified, against the real server; it compares each answer it gets."""

import json
import os
import subprocess
from ctypes.util import find_library
from pathlib import Path

import httpx
import pytest

from pipeline.data.load import Dataset
from tests.support import install

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_library("b64"), reason="needs libb64: apt-get install libb64-0d"),
]

MODEL = "batchnorm_mlp"
# The last version whose program runs with the C library of Debian 12; it also needs CUDA's runtime.
PACKAGES = ["tritonclient==2.51.0", "nvidia-cuda-runtime-cu12"]
JSON = ["--input-tensor-format=json", "--output-tensor-format=json"]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the program, in an environment of its own."""
    return install(tmp_path_factory.mktemp("perf") / "environment", "--no-deps", *PACKAGES)


@pytest.fixture
def input_data(server: httpx.Client, small_dataset: Dataset, tmp_path: Path) -> Path:
    """A file of five images and the answers to expect."""
    data, answers = [], []
    for image in small_dataset.test_images[:5]:
        content, shape = image.ravel().tolist(), list(image.shape)
        data.append({"images": {"content": content, "shape": shape}})
        tensor = {"name": "images", "datatype": "UINT8", "shape": [1, *shape], "data": content}
        response = server.post(f"/v2/models/{MODEL}/infer", json={"inputs": [tensor]}).json()
        answers.append(
            {output["name"]: {"content": output["data"]} for output in response["outputs"]}
        )
    path = tmp_path / "input_data.json"
    path.write_text(json.dumps({"data": data, "validation_data": answers}))
    return path


def analyze(
    tools: Path, server: httpx.Client, input_data: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Send 500 requests."""
    (library,) = tools.parent.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib")
    address = f"127.0.0.1:{server.base_url.port}"
    command = [str(tools / "perf_analyzer"), "-m", MODEL, "-u", address, "--request-count=500"]
    return subprocess.run(
        [*command, f"--input-data={input_data}", *options],
        env=os.environ | {"LD_LIBRARY_PATH": str(library)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="binary"),
        pytest.param(JSON, id="json"),
        pytest.param(["--async"], id="async"),
    ],
)
def test_perf_analyzer_gets_the_answers_to_expect(
    tools: Path, server: httpx.Client, input_data: Path, options: list[str]
) -> None:
    done = analyze(tools, server, input_data, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Request count: 500" in done.stdout


def test_perf_analyzer_notices_another_answer(
    tools: Path, server: httpx.Client, input_data: Path
) -> None:
    content = json.loads(input_data.read_text())
    content["validation_data"][2]["logits"]["content"][3] += 1
    input_data.write_text(json.dumps(content))
    done = analyze(tools, server, input_data)
    assert done.returncode, done.stdout
    assert "doesn't match expected output" in done.stdout + done.stderr
