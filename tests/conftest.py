"""The fixtures of all tests: a small data set, trained networks and a copy of the project."""

import copy
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import torch
from playwright.sync_api import Browser, sync_playwright
from ruamel.yaml import YAML

from models.mlp import BatchNormMLP  # whatever the table has
from pipeline.certify.server import running_server
from pipeline.core import files
from pipeline.core.files import ROOT
from pipeline.core.params import Recipe, StudyParams
from pipeline.data.load import Dataset, load_dataset
from pipeline.export.graph import held_out_reference, self_test, to_onnx
from pipeline.study.experiments import EXPERIMENTS, gather
from pipeline.tracking.store import correct_addresses
from pipeline.train.loop import train
from tests.support import INITDB, Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# What the tests with a marker need, and why they are skipped without it.
NEEDS = {
    "browser": (CHROMIUM, "needs Chromium: apt-get install chromium"),
    "gpu": (torch.cuda.is_available(), "needs an NVIDIA GPU and its driver"),
    "services": (INITDB, "needs PostgreSQL: apt-get install postgresql"),
}


def order(item: pytest.Item) -> int:
    """Begin with the file whose first test makes the finished project, while another worker makes
    the study's tables; end with the server's many short files, so that no worker ends long
    before the other."""
    if item.path.name == "test_pipeline.py":
        return 0
    if item.path.parent.name == "serve":
        return 3
    return 1 if "study_tables" in getattr(item, "fixturenames", ()) else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests, and skip those that need what this machine does not have."""
    items.sort(key=order)
    for name, (there, reason) in NEEDS.items():
        for item in items if not there else []:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table of the drills that ran, with the figures that they recorded."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    drills = [report for report in reports if report.when == "call" and "slow" in report.keywords]
    if drills:
        terminalreporter.section("drills")
        terminalreporter.line("| drill | what must hold | seen | result |")
        terminalreporter.line("| --- | --- | --- | --- |")
    for report in drills:
        file, _, test = report.location
        topic, claim = (
            name.removeprefix("test_").replace("_", " ") for name in (Path(file).stem, test)
        )
        seen = "; ".join(str(value) for _, value in report.user_properties)
        terminalreporter.line(f"| {topic} | {claim} | {seen} | {report.outcome} |")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Train as the pipeline does; with more threads, small operations mostly wait."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """640 training and 320 test images of ten blurred patterns: learned in a few epochs."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 256, (10, 28, 28))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = random.integers(0, 10, count)
        noise = random.normal(0, 60, (count, 28, 28))
        return np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8), labels

    return Dataset(*draw(640), *draw(320))


@pytest.fixture(scope="session")
def train_params() -> Recipe:
    return Recipe(epochs=2, batch_size=64, lr=0.01, seed=0, device="cpu")


@pytest.fixture(scope="session")
def study_params() -> StudyParams:
    """The smallest study that has every part, with several batches and epochs."""
    return StudyParams(
        seeds=2, images=128, epochs=2, rates_epochs=1, scale_epochs=2, overfitting_epochs=2,
        device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder that all workers of pytest-xdist share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def make_once(name: str, make: Callable[[Path], None], folder: Path) -> Path:
    """Return the path of a file or folder that is made once per session in the shared folder; no
    test may change it."""
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name).exists():
            shutil.rmtree(folder / f"{name}.part", ignore_errors=True)  # of one that failed
            make(folder / f"{name}.part")
            (folder / f"{name}.part").rename(folder / name)
    return folder / name


@pytest.fixture(scope="session")
def study_tables(study_params: StudyParams, shared: Path) -> dict[str, pd.DataFrame]:
    """The tables of that study."""

    def make(path: Path) -> None:
        dataset, cpu = load_dataset(), torch.device("cpu")
        done = [
            measure(seed, study_params, dataset, cpu)
            for measure in EXPERIMENTS.values()
            for seed in range(study_params.seeds)
        ]
        pd.to_pickle(gather(done), path)

    return pd.read_pickle(make_once("study", make, shared))


@pytest.fixture(scope="session")
def trained_network(small_dataset: Dataset, train_params: Recipe) -> BatchNormMLP:
    """A batch-normalized network after two epochs, in eval mode; tests change copies of it."""
    torch.manual_seed(0)
    network = BatchNormMLP()
    list(train(network, small_dataset, train_params))
    return network.eval()


@pytest.fixture
def network(trained_network: BatchNormMLP) -> BatchNormMLP:
    """A copy of the trained network."""
    return copy.deepcopy(trained_network)


@pytest.fixture(scope="session")
def exported(trained_network: BatchNormMLP, small_dataset: Dataset) -> bytes:
    """The trained network's ONNX file."""
    metadata = {"test_accuracy": "0.9"}
    metadata |= held_out_reference(trained_network, small_dataset.test_images)
    metadata |= self_test(trained_network)
    model = to_onnx(trained_network, "batchnorm_mlp", metadata)
    return model.SerializeToString(deterministic=True)


@pytest.fixture
def model(exported: bytes, tmp_path: Path) -> Path:
    """A copy of the trained network's ONNX file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(exported)
    return path


@pytest.fixture(scope="session")
def server(exported: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the real server of that network, which all tests share."""
    path = tmp_path_factory.mktemp("server") / "model.onnx"
    path.write_bytes(exported)
    with running_server(path) as client:
        yield client


@pytest.fixture
def new_server(model: Path) -> Iterator[httpx.Client]:
    """A client of a server of its own, for tests that count or measure."""
    with running_server(model) as client:
        yield client


@pytest.fixture(scope="module")  # while it is open, no other test could use asyncio
def browser() -> Iterator[Browser]:
    """Chromium, in which each test opens pages of its own."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One Prefect server for all flows that tests run, each of which would start its own."""
    from prefect.settings import PREFECT_API_URL  # takes seconds to import, which few tests need
    from prefect.testing.utilities import prefect_test_harness

    harness = prefect_test_harness(server_startup_timeout=120)  # on a busy machine
    with harness, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
        yield


def make_project(folder: Path, study: StudyParams) -> None:
    """Make a committed copy of the project with its data, one epoch of training, a small study and
    no results."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listing, cwd=ROOT, text=True).splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "data", folder / "data")
    for lock in ("dvc.lock", "study/dvc.lock"):
        (folder / lock).unlink(missing_ok=True)
    yaml, path = YAML(), folder / "params.yaml"
    params = yaml.load(path)
    params["train"]["epochs"] = 1
    params["promote"]["min_test_accuracy"] = 0.9
    params["study"] = study.model_dump()
    yaml.dump(params, path)
    for command in (
        "git init -q -b main",
        "git config user.name tests",
        "git config user.email tests@example.invalid",
        "git add .",
        "git commit -q -m project",
        "dvc commit -q data.dvc",
    ):
        subprocess.run(command.split(), cwd=folder, check=True)


@pytest.fixture(scope="session")
def finished_project(shared: Path, study_params: StudyParams, prefect_server: None) -> Path:
    """A copy of the project in which `dvc repro` and the study have run once, with proxies that do
    not answer; their output is in repro.txt next to it, and their results are committed."""

    def make(folder: Path) -> None:
        make_project(folder, study_params)
        names = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")
        proxies = " ".join(f"{name}=http://127.0.0.1:9" for name in names)  # nobody listens there
        command = f"unset no_proxy NO_PROXY; export {proxies}; dvc repro --all-pipelines"
        output = run_in(folder, command).stdout
        folder.with_name("repro.txt").write_text(output)
        run_in(folder, "git add dvc.lock study metrics && git commit -q -m results")

    return make_once("project", make, shared)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, finished_project: Path) -> Path:
    """A copy of the finished project, whose MLflow store has the addresses of its own files."""
    folder = tmp_path_factory.mktemp("project") / "mnist-batchnorm"
    shutil.copytree(finished_project, folder, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "PROJECT", folder)
        correct_addresses(folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def new_project(
    tmp_path_factory: pytest.TempPathFactory, study_params: StudyParams, prefect_server: None
) -> Path:
    """A copy of the project in which nothing has run."""
    folder = tmp_path_factory.mktemp("project") / "mnist-batchnorm"
    make_project(folder, study_params)
    return folder


@pytest.fixture(scope="module")
def run(project: Path) -> Run:
    """Run a shell command in the copy and return it with its output; it must succeed."""
    return partial(run_in, project)


def run_in(folder: Path, command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a shell command in a folder, without MLflow's settings; it must end with that status."""
    clean = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder, env=clean, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done
