"""What the tests share: a small data set, trained networks and a copy of the project."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import torch
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from models import BatchNormMLP
from pipeline.artifacts import ROOT
from pipeline.data import Mnist, load_mnist
from pipeline.export import to_onnx
from pipeline.legs import running_server
from pipeline.params import StudyParams, TrainParams
from pipeline.study.experiments import EXPERIMENTS, gather
from pipeline.train import train

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """As the pipeline trains; with more, small operations spend their time waiting."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_mnist() -> Mnist:
    """640 training and 320 test images of ten blurred patterns: learnt in a few epochs."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 256, (10, 28, 28))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = random.integers(0, 10, count)
        noise = random.normal(0, 60, (count, 28, 28))
        return np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8), labels

    return Mnist(*draw(640), *draw(320))


@pytest.fixture
def train_params() -> TrainParams:
    return TrainParams(epochs=2, batch_size=64, lr=0.01, seed=0, device="cpu")


@pytest.fixture(scope="session")
def study_params() -> StudyParams:
    """The smallest study that has every part."""
    return StudyParams(
        seeds=2, images=640, epochs=2, rates_epochs=1, scale_epochs=2, overfitting_epochs=2,
        device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="session")
def study_tables(study_params: StudyParams) -> dict[str, pd.DataFrame]:
    """What that study measures."""
    mnist, cpu = load_mnist(), torch.device("cpu")
    done = [
        measure(seed, study_params, mnist, cpu)
        for measure in EXPERIMENTS.values()
        for seed in range(study_params.seeds)
    ]
    return gather(done)


@pytest.fixture
def network(small_mnist: Mnist, train_params: TrainParams) -> BatchNormMLP:
    """A batch-normalised network after two epochs, in eval mode."""
    torch.manual_seed(0)
    network = BatchNormMLP()
    list(train(network, small_mnist, train_params))
    return network.eval()


@pytest.fixture
def model(network: BatchNormMLP, tmp_path: Path) -> Path:
    """The network's ONNX file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(network, 0.9).SerializeToString(deterministic=True))
    return path


@pytest.fixture
def server(model: Path) -> Iterator[httpx.Client]:
    """A client of the real server of that file."""
    with running_server(model) as client:
        yield client


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One server for all flows that tests run as a user does, who waits for one at each flow."""
    with prefect_test_harness(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Path:
    """A committed copy of the project with MNIST in place, one epoch a training, a small study."""
    folder = tmp_path_factory.mktemp("project") / "mnist-batchnorm"
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listing, cwd=ROOT, text=True).splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "data", folder / "data")
    (folder / "dvc.lock").unlink(missing_ok=True)
    params = folder / "params.yaml"
    params.write_text(
        params.read_text()
        .replace("epochs: 10", "epochs: 1")
        .replace("min_test_accuracy: 0.97", "min_test_accuracy: 0.9")
        .replace("scale_epochs: 20", "scale_epochs: 2")
        .replace("seeds: 5", "seeds: 2")
        .replace("images: 60000", "images: 64")
    )
    for command in (
        "git init -q -b main",
        "git config user.name tests",
        "git config user.email tests@example.invalid",
        "git add .",
        "git commit -q -m project",
        "dvc commit -q data.dvc",
    ):
        subprocess.run(command.split(), cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def run(project: Path) -> Run:
    """Run a shell command in the copy and return it with its output; it must succeed."""

    def run(command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=project, env=clean, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done

    return run


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
