"""MLflow that is killed, locked or full, and two pipelines at once, in a copy of the project."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import httpx
import pytest
from mlflow import MlflowClient

from models import NETWORKS
from tests.support import Run, free_port, set_param, start, wait_for

pytestmark = pytest.mark.slow

EPOCHS = 2
HINT = "Nothing is lost: run the same command again when it is back"


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real MLflow server on a store in the folder; the block may kill it before its end."""
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/store.db"),
        *("--artifacts-destination", (folder / "store").as_uri()),
    ]
    server = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                break
            except httpx.HTTPError:
                assert server.poll() is None, "the MLflow server stopped"
                time.sleep(0.1)
        yield server
    finally:
        kill(server)


def kill(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@pytest.fixture(scope="module", autouse=True)
def two_epochs(run: Run, project: Path) -> None:
    set_param(project, "train.epochs", EPOCHS)
    run("git commit -q -a -m epochs")


def test_an_mlflow_server_that_is_killed_while_training_loses_nothing(
    run: Run, project: Path, tmp_path: Path
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    mlflow = {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    output = ""
    with (
        mlflow_server(tmp_path, port) as server,
        subprocess.Popen(
            ["dvc", "repro", "promote"],
            cwd=project,
            env=os.environ | mlflow,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as repro,
    ):
        assert repro.stdout is not None
        for line in repro.stdout:
            output += line
            if f"epoch 1/{EPOCHS}" in line:
                kill(server)
    assert repro.returncode == 255
    assert HINT in output
    assert "Traceback" not in output
    assert json.loads((project / "artifacts/certify/certificate.json").read_text())["passed"]

    with mlflow_server(tmp_path, port):
        output = run(f"MLFLOW_TRACKING_URI={address} dvc repro promote").stdout
        assert output.count("Running stage") == 1
        assert "version 1 was judged champion" in output
        client = MlflowClient(address)
        runs = client.search_runs(["1"])
        assert {one.info.run_name for one in runs} == set(NETWORKS)
        for one in runs:
            losses = client.get_metric_history(one.info.run_id, "train_loss")
            assert [point.step for point in losses] == list(range(1, EPOCHS + 1))
        assert (
            "the chain is whole"
            in run(f"MLFLOW_TRACKING_URI={address} python -m pipeline.trace champion").stdout
        )


def test_two_clones_that_record_and_promote_the_same_content_at_once_both_succeed(
    run: Run, project: Path, tmp_path: Path
) -> None:
    run("dvc repro promote")
    clones = [tmp_path / "one" / "project", tmp_path / "two" / "project"]
    for clone in clones:
        shutil.copytree(project, clone, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    def promote() -> None:
        command = [sys.executable, "-m", "pipeline.promote"]
        environment = os.environ | {"MLFLOW_TRACKING_URI": address}
        both = [
            subprocess.Popen(command, cwd=clone, env=environment, text=True, stdout=PIPE)
            for clone in clones
        ]
        outputs = [one.communicate()[0] for one in both]
        assert [one.returncode for one in both] == [0, 0], outputs

    with mlflow_server(tmp_path, port):
        promote()
        client = MlflowClient(address)
        versions = client.search_model_versions("name = 'mnist-batchnorm'")
        assert len({version.tags["model.sha256"] for version in versions}) == 1
        for run_id in {str(version.run_id) for version in versions}:
            assert client.get_run(run_id).info.lifecycle_stage == "active"
        promote()
        assert len(client.search_model_versions("name = 'mnist-batchnorm'")) == len(versions)
        trace = f"MLFLOW_TRACKING_URI={address} python -m pipeline.trace champion"
        assert "the chain is whole" in run(trace).stdout


def test_a_locked_store_is_an_error_with_a_hint(run: Run, project: Path) -> None:
    database = sqlite3.connect(project / "mlflow.db", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    output = run("python -m pipeline.tracking", status=1).stdout
    database.execute("ROLLBACK")
    database.close()
    assert "database is locked" in output
    assert HINT in output
    run("python -m pipeline.tracking")


def test_a_full_store_is_an_error_and_gets_complete_runs_once_there_is_room(
    run: Run, project: Path
) -> None:
    run("rm mlflow.db && python -m pipeline.tracking")
    with sqlite3.connect(project / "mlflow.db") as database:
        # Without the tags by which they are found, it lacks the runs.
        database.execute("DELETE FROM tags WHERE key IN ('execution.id', 'weights.sha256')")
    output = run("ulimit -f 50; python -m pipeline.tracking", status=1).stdout  # of 1024 bytes
    assert HINT in output
    run("python -m pipeline.tracking")
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    for key in NETWORKS:
        (one,) = client.search_runs(["1"], f"run_name = '{key}' and tags.`weights.sha256` != ''")
        assert one.info.status == "FINISHED"
        assert len(client.get_metric_history(one.info.run_id, "train_loss")) == EPOCHS


def test_of_two_repros_at_once_the_second_stops_and_damages_nothing(
    run: Run, project: Path
) -> None:
    # DVC remembers the other stages of the commit before the epochs, and restores their outputs.
    run("git checkout -q -f HEAD~ && rm -r artifacts dvc.lock")
    first = start(project, "dvc --wait-for-lock repro --force --single-item train")
    wait_for(first, "Running stage 'train'")
    repro = "dvc --wait-for-lock repro promote"
    second = run(repro, status=255).stdout
    assert "is busy, it is being blocked by" in second
    assert f"(PID {first.pid})" in second
    assert "Running stage" not in second
    output = first.communicate()[0]
    assert first.returncode == 0, output
    assert "up to date" in run("dvc status train").stdout
    again = run(repro).stdout
    assert again.count("Running stage") == 1
    assert "Running stage 'promote'" in again
    assert "\nchampion " in again
    run("git checkout -q -f main")
