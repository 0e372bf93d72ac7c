"""Whom Prefect's server obeys: flows, but no web page."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import flow, task

from pipeline.core.files import ROOT
from pipeline.core.flows import run_flow
from tests.core.attack import attack_prefect

RUN = "from pipeline.core.flows import run_flow; run_flow('tests.core.test_prefect_server:victim')"


@task
def answer() -> int:
    """Return 1, by way of the server."""
    return 1


@flow
def victim() -> None:
    """Run a task, and attack the server that this flow runs on."""
    assert answer.submit().result() == 1
    attack_prefect(os.environ["PREFECT_API_URL"])


@pytest.mark.slow
def test_a_web_page_cannot_command_the_temporary_server_of_a_flow(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=ROOT, env=clean | {"PREFECT_HOME": str(tmp_path)},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@flow
def guest() -> None:
    """Check the setting on a server that the user has named."""
    assert os.environ["PREFECT_API_AUTH_STRING"] == "theirs"


def test_a_server_that_the_user_names_keeps_its_auth_string(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "theirs")
    run_flow("tests.core.test_prefect_server:guest")
