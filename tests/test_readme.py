"""The commands of README.md, as a reader types them, in a copy of the project."""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from models import NETWORKS
from pipeline.core.files import ROOT
from tests.support import Run

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
SERVERS = {"make ui": "http://127.0.0.1:5000/", "make serve": "http://127.0.0.1:8080/v2"}
CHARTS = re.findall(r"<(http://127\.0\.0\.1:5000/#[^>]*)>", README)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module", autouse=True)
def environment(project: Path, run: Run) -> None:
    """The copy has the virtual environment that the tests run in, and has run once."""
    (project / ".venv").symlink_to(ROOT / ".venv")
    run("make repro")


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


def has_its_own_test(command: str) -> bool:
    return command in SERVERS or command.startswith(("curl", "make test", "make drill"))


def test_the_readme_has_the_commands_that_these_tests_run() -> None:
    assert {"make repro", "make test", *SERVERS} <= set(COMMANDS)
    assert len(CHARTS) == 1


@pytest.mark.parametrize("command", [c for c in COMMANDS if not has_its_own_test(c)])
def test_a_command_of_the_readme_works(command: str, run: Run) -> None:
    run(command)


def test_curl_classifies_the_seven(run: Run, project: Path) -> None:
    (command,) = (command for command in COMMANDS if command.startswith("curl"))
    with running("make serve", project):
        response = json.loads(run(command).stdout)
    probabilities = response["outputs"][1]["data"]
    assert probabilities.index(max(probabilities)) == 7


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium")
def test_mlflow_plots_the_curves_of_both_runs_together(project: Path) -> None:
    with running("make ui", project), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 1200})
        page.goto(CHARTS[0])
        for key in NETWORKS:
            for metric in ("train_loss", "test_loss", "test_accuracy"):
                page.get_by_text(f"{key} ({metric})").first.wait_for(timeout=60_000)
        browser.close()


def tree() -> Iterator[Path]:
    """Yield the path of every file and folder in the README's tree."""
    (block,) = re.findall(r"^```\n(Makefile .*?)^```", README, re.MULTILINE | re.DOTALL)
    folders: list[str] = []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        first, *others = re.split("  +", line.strip())[0].split()
        names = [first, *itertools.takewhile(lambda word: "." in word, others)]
        folders = [*folders[:depth], names[0]]
        yield from (Path(*folders[:depth], name) for name in names)


def test_everything_in_the_readmes_tree_exists_and_no_folder_is_missing_from_it() -> None:
    named = set(tree())
    assert [path for path in named if not (ROOT / path).exists()] == []
    tracked = subprocess.check_output(["git", "ls-files", "pipeline", "serve"], cwd=ROOT, text=True)
    folders = {folder for name in tracked.splitlines() for folder in Path(name).parents}
    assert folders - {Path()} - named == set()
