"""The deployment that runs `dvc repro` at night, and Prefect's pages, on a server of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from models import NETWORKS
from tests.support import Run, free_port, set_param

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def server(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server with its UI, which the copy of the project uses."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    home = str(tmp_path_factory.mktemp("prefect"))
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(
            command,
            cwd=project,
            env=os.environ | {"PREFECT_HOME": home, "PREFECT_UI_API_URL": f"{address}/api"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            patch.setenv("PREFECT_API_URL", f"{address}/api")
            for _ in range(1200):
                try:
                    httpx.get(f"{address}/api/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert process.poll() is None, "the Prefect server stopped"
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()


def states(address: str, flow: str) -> list[str]:
    """Return the states of a flow's runs, the newest first."""
    body = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC"}
    runs = httpx.post(f"{address}/api/flow_runs/filter", json=body).json()
    return [run["state_type"] for run in runs]


def test_the_deployment_is_created_without_an_error(run: Run, project: Path, server: str) -> None:
    run("prefect work-pool create mnist-batchnorm --type process")
    run("prefect --no-prompt deploy --all")
    deployment = httpx.get(f"{server}/api/deployments/name/repro/nightly").json()
    assert deployment["entrypoint"] == "pipeline/nightly.py:repro"


def test_the_flow_runs_the_stages_and_one_that_fails_leaves_the_last_results(
    run: Run, project: Path, server: str
) -> None:
    set_param(project, "train.seed", 1)
    run("python -m pipeline.nightly && git commit -q -a -m results")
    provenance = json.loads((project / "artifacts/train/provenance.json").read_text())
    assert provenance["params"]["seed"] == 1
    assert states(server, "repro") == ["COMPLETED"]
    set_param(project, "train.lr", 1e30)
    output = run("python -m pipeline.nightly", status=1).stdout
    assert "error: `dvc repro` ended with 255: see the log" in output
    assert states(server, "repro") == ["FAILED", "COMPLETED"]
    run("git checkout -q params.yaml")
    assert run("git status --porcelain").stdout == ""
    assert "train" not in run("dvc status").stdout


@pytest.mark.browser
def test_prefects_page_of_a_task_shows_the_epochs(server: str, browser: Browser) -> None:
    body = {"task_runs": {"name": {"like_": "train simple_mlp"}}, "sort": "END_TIME_DESC"}
    tasks = httpx.post(f"{server}/api/task_runs/filter", json=body).json()
    finished = next(task for task in tasks if task["state_type"] == "COMPLETED")
    assert {task["name"] for task in tasks} <= {f"train {key}" for key in NETWORKS}
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"{server}/runs/task-run/{finished['id']}")
    page.get_by_text("epoch 1/1: train loss").first.wait_for(timeout=60_000)
    page.get_by_text("training SimpleMLP with {'epochs': 1").first.wait_for()
    page.close()
