"""The deployment that runs `dvc repro` at night, and Prefect's pages, on a server of their own."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from models import NETWORKS
from pipeline.core.files import ROOT
from tests.core.attack import attack_prefect
from tests.support import Run, free_port, set_param

pytestmark = pytest.mark.slow
EXPORTS = re.findall(r"^export PREFECT_.*", (ROOT / "docs/cluster.md").read_text(), re.MULTILINE)


def documented(port: int) -> dict[str, str]:
    """Return the variables that docs/cluster.md exports before it starts a server, on this port."""
    script = "\n".join([*EXPORTS, "env"]).replace("4200", str(port))
    lines = subprocess.check_output(["bash", "-c", script], text=True).splitlines()
    return dict(line.split("=", 1) for line in lines if line.startswith("PREFECT_"))


@pytest.fixture(scope="module", autouse=True)
def server(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a Prefect server with its UI, which the copy of the project uses."""
    port = free_port()
    variables = documented(port)
    secret = base64.b64encode(variables["PREFECT_API_AUTH_STRING"].encode()).decode()
    home = {"PREFECT_HOME": str(tmp_path_factory.mktemp("prefect"))}
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    address, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Basic {secret}"}
    with (
        pytest.MonkeyPatch.context() as patch,
        httpx.Client(base_url=address, headers=headers) as client,
        subprocess.Popen(
            command,
            cwd=project,
            env=os.environ | variables | home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            for name, value in variables.items():
                patch.setenv(name, value)
            for _ in range(1200):
                try:
                    client.get("/api/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert process.poll() is None, "the Prefect server stopped"
                    time.sleep(0.1)
            yield client
        finally:
            process.terminate()


def states(server: httpx.Client, flow: str) -> list[str]:
    """Return the states of a flow's runs, the newest first."""
    body = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC"}
    runs = server.post("/api/flow_runs/filter", json=body).json()
    return [run["state_type"] for run in runs]


def test_a_web_page_cannot_command_the_server_of_the_documents(server: httpx.Client) -> None:
    attack_prefect(f"{server.base_url}/api")


def test_the_deployments_are_created_without_an_error(
    run: Run, project: Path, server: httpx.Client
) -> None:
    run("prefect work-pool create mnist-batchnorm --type process")
    run("prefect --no-prompt deploy --all")
    nightly = server.get("/api/deployments/name/repro/nightly").json()
    assert nightly["entrypoint"] == "pipeline/nightly.py:repro"
    watch = server.get("/api/deployments/name/watch/every-minute").json()
    assert watch["entrypoint"] == "pipeline/adapt/watch.py:check"
    assert watch["global_concurrency_limit"]["limit"] == 1
    assert watch["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_the_flow_runs_the_stages_and_one_that_fails_leaves_the_last_results(
    run: Run, project: Path, server: httpx.Client
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
def test_prefects_page_of_a_task_shows_the_epochs(server: httpx.Client, browser: Browser) -> None:
    body = {"task_runs": {"name": {"like_": "train simple_mlp"}}, "sort": "END_TIME_DESC"}
    tasks = server.post("/api/task_runs/filter", json=body).json()
    finished = next(task for task in tasks if task["state_type"] == "COMPLETED")
    assert {task["name"] for task in tasks} <= {f"train {key}" for key in NETWORKS}
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(str(server.base_url))
    page.locator("input[type=password]").fill(os.environ["PREFECT_API_AUTH_STRING"])
    page.keyboard.press("Enter")
    page.get_by_text("Logout").first.wait_for(timeout=60_000)
    page.goto(f"{server.base_url}/runs/task-run/{finished['id']}")
    page.get_by_text("epoch 1/1: train loss").first.wait_for(timeout=60_000)
    page.get_by_text("training SimpleMLP with {'epochs': 1").first.wait_for()
    page.close()
