"""The commands of README.md, as a reader types them, in a copy of the project."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Browser, Page

from models import NETWORKS
from pipeline.core.files import ROOT
from pipeline.core.history import Epoch
from pipeline.core.params import load_params
from pipeline.core.provenance import Provenance
from pipeline.tracking.live import follow
from pipeline.tracking.record import Record, epoch_points, now_ms
from pipeline.tracking.registry import logged_model_id
from tests.serve.process import wait_until
from tests.support import Run

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
SERVERS = {"make ui": "http://127.0.0.1:5000/", "make serve": "http://127.0.0.1:8080/v2"}
(PYTHON,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
UI = SERVERS["make ui"]


@pytest.fixture(scope="module", autouse=True)
def environment(project: Path, run: Run) -> None:
    """The copy has the virtual environment that the tests run in, and its first command has run."""
    (project / ".venv").symlink_to(ROOT / ".venv")
    output = run("make repro").stdout
    assert "Running stage 'promote'" in output
    assert "Stage 'study/dvc.yaml:study' didn't change" in output


@contextmanager
def running(command: str, project: Path) -> Iterator[None]:
    """Run one of the README's servers for the duration of the block."""
    port = int(SERVERS[command].split(":")[2].split("/")[0])
    with socket.socket() as probe:
        free = probe.connect_ex(("127.0.0.1", port)) != 0
        assert free, f"port {port} is taken: stop what listens there"
    server = subprocess.Popen(
        command.split(), cwd=project, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(SERVERS[command]).close()
                break
            except OSError:
                assert server.poll() is None, f"{command} stopped"
                time.sleep(0.1)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def has_its_own_test(command: str) -> bool:  # here, in test_pipeline.py or trace/test_lineage.py
    its_own = ("dvc repro", "dvc exp run -S train.lr=0.05", *SERVERS)
    return command in its_own or command.startswith(("curl", "make repro", "make test"))


def test_the_readme_has_the_commands_that_these_tests_run() -> None:
    assert {"make repro", "make test", *SERVERS} <= set(COMMANDS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not has_its_own_test(c)])
def test_a_command_of_the_readme_works(command: str, run: Run) -> None:
    run(command)


def test_curl_classifies_the_seven(run: Run, project: Path) -> None:
    (command,) = (command for command in COMMANDS if command.startswith("curl"))
    with running("make serve", project):
        response = json.loads(run(command).stdout)
        assert run(f"python -c '{PYTHON}'").stdout == "7\n"
    probabilities = response["outputs"][1]["data"]
    assert probabilities.index(max(probabilities)) == 7


@pytest.fixture(scope="module")
def page(project: Path, environment: None, browser: Browser) -> Iterator[Page]:
    """A page of a browser, while `make ui` runs."""
    with running("make ui", project):
        page = browser.new_page(viewport={"width": 1900, "height": 1200})
        page.set_default_timeout(60_000)
        yield page
        page.close()


@pytest.fixture(scope="module")
def charts(run: Run, environment: None) -> str:
    """The address of the curves, as `make ui` prints it."""
    (address,) = re.findall(r"http://\S+", run("python -m pipeline.tracking").stdout)
    return address


@pytest.mark.slow
@pytest.mark.browser
def test_mlflow_plots_the_curves_of_both_runs_together(page: Page, charts: str) -> None:
    page.goto(charts)
    for key in NETWORKS:
        for metric in ("train_loss", "test_loss", "test_accuracy"):
            page.get_by_text(f"{key} ({metric})").first.wait_for()
    assert (
        page.get_by_text("certificate").count() == 0
    )  # its figures would be bars above the curves


@pytest.mark.slow
@pytest.mark.browser
def test_mlflows_runs_have_a_data_set_a_source_and_a_model(page: Page) -> None:
    page.goto(f"{UI}#/experiments/1/runs?workflowType=machine_learning")
    for text in ("MNIST training", "python -m pipeline.train", "mnist-batchnorm v1"):
        page.get_by_text(text).first.wait_for()


@pytest.mark.slow
@pytest.mark.browser
def test_mlflows_page_of_the_model_is_linked_to_its_version(page: Page, project: Path) -> None:
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    champion = client.get_model_version_by_alias("mnist-batchnorm", "champion")
    page.goto(f"{UI}#/experiments/1/models/{logged_model_id(champion)}")
    page.locator(f"a[href$='/models/mnist-batchnorm/versions/{champion.version}']").first.wait_for()
    page.get_by_text("test_accuracy", exact=True).first.wait_for()
    page.goto(f"{UI}#/models/mnist-batchnorm/versions/{champion.version}")
    page.get_by_text("certificate.flipped").first.wait_for()


@pytest.mark.slow
@pytest.mark.browser
def test_mlflow_shows_the_epochs_of_a_training_that_is_running(
    page: Page, charts: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{project}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    records: Queue[Record | None] = Queue()
    following = Thread(target=follow, args=(records, lambda _key, _run: None))
    following.start()
    provenance = Provenance.take("train", load_params().train, "0123.dir")
    record = Record.start("simple_mlp", provenance)
    for epoch in (1, 2, 3):
        record = record.add(epoch_points(Epoch(epoch, 1 / epoch, 1 / epoch, 0.9123), now_ms()))
        records.put(record)
    client = MlflowClient(store)
    running_now = "attributes.status = 'RUNNING' and metrics.train_loss > 0"
    wait_until(lambda: len(client.search_runs(["1"], running_now)) == 1, 60)
    run_id = client.search_runs(["1"], running_now)[0].info.run_id
    page.goto(f"{UI}#/experiments/1/runs/{run_id}?workflowType=machine_learning")
    page.get_by_text("Running", exact=True).first.wait_for()
    page.get_by_text("0.9123").first.wait_for()
    page.goto(charts)
    page.get_by_text("simple_mlp (test_accuracy)").nth(1).wait_for()
    assert [m.step for m in client.get_metric_history(run_id, "test_loss")] == [1, 2, 3]
    records.put(record.end("KILLED"))
    records.put(None)
    following.join()
    page.goto(f"{UI}#/experiments/1/runs/{run_id}?workflowType=machine_learning")
    page.reload()
    page.get_by_text("Killed", exact=True).first.wait_for()


def test_every_folder_is_in_the_tree_of_the_architecture_and_nothing_else_is() -> None:
    (block,) = re.findall(r"^```\n(Makefile .*?)^```", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    named, parents = set(), [Path()]
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split("  +", line.strip())[0].split()
        parents[depth + 1 :] = [parents[depth] / names[0]]
        named |= {parents[depth] / name for name in names}
    assert [path for path in named if not (ROOT / path).exists()] == []
    tracked = subprocess.check_output(["git", "ls-files", "pipeline", "serve"], cwd=ROOT, text=True)
    folders = {folder for name in tracked.splitlines() for folder in Path(name).parents}
    assert folders - {Path()} - named == set()
