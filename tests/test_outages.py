"""MLflow that goes, is locked or is full, and two pipelines at once, in a copy of the project."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import Run, free_port
from mlflow import MlflowClient

from pipeline.artifacts import KEYS

EPOCHS = 3


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real MLflow server on a store in the folder; the block may kill it before its end."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/store.db",
        "--artifacts-destination", (folder / "store").as_uri(),
    ]  # fmt: skip
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
def three_epochs(run: Run) -> None:
    run(f"sed -i 's/epochs: 1/epochs: {EPOCHS}/' params.yaml && git commit -q -a -m epochs")


def test_an_mlflow_server_that_is_killed_while_training_loses_nothing(
    run: Run, project: Path, tmp_path: Path
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ, "MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"
    }  # fmt: skip
    output = ""
    with (
        mlflow_server(tmp_path, port) as server,
        subprocess.Popen(
            ["dvc", "repro", "promote"], cwd=project, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as repro,
    ):  # fmt: skip
        assert repro.stdout is not None
        for line in repro.stdout:
            output += line
            if f"epoch 1/{EPOCHS}" in line:
                kill(server)
    assert repro.returncode == 255
    assert "Nothing is lost: run `dvc repro` again when it is back" in output
    assert "Traceback" not in output
    assert json.loads((project / "artifacts/certificate.json").read_text())["passed"]

    with mlflow_server(tmp_path, port):
        output = run(f"MLFLOW_TRACKING_URI={address} dvc repro promote").stdout
        assert output.count("Running stage") == 1
        assert "version 1 was judged champion" in output
        client = MlflowClient(address)
        runs = client.search_runs(["1"])
        assert {one.info.run_name for one in runs} == set(KEYS)
        for one in runs:
            losses = client.get_metric_history(one.info.run_id, "train_loss")
            assert [point.step for point in losses] == list(range(1, EPOCHS + 1))
        assert (
            "the chain is whole"
            in run(f"MLFLOW_TRACKING_URI={address} python -m pipeline.trace champion").stdout
        )


def test_a_locked_store_is_an_error_that_says_what_to_do(run: Run, project: Path) -> None:
    run("dvc repro promote")
    database = sqlite3.connect(project / "mlflow.db", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    output = run("python -m pipeline.tracking", status=1).stdout
    database.execute("ROLLBACK")
    database.close()
    assert "database is locked" in output
    assert "Nothing is lost: run `python -m pipeline.tracking`" in output
    run("python -m pipeline.tracking")


def test_a_full_store_is_an_error_and_records_whole_runs_when_there_is_room(
    run: Run, project: Path
) -> None:
    run("rm mlflow.db && python -m pipeline.tracking")  # a store, and then one that lacks the runs
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("DELETE FROM tags WHERE key = 'weights.sha256'")
    output = run("ulimit -f 50; python -m pipeline.tracking", status=1).stdout  # of 1024 bytes
    assert "Nothing is lost: run `python -m pipeline.tracking`" in output
    run("python -m pipeline.tracking")
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    for key in KEYS:
        (one,) = client.search_runs(["1"], f"run_name = '{key}' and tags.`weights.sha256` != ''")
        assert one.info.status == "FINISHED"
        assert len(client.get_metric_history(one.info.run_id, "train_loss")) == EPOCHS


def test_of_two_repros_at_once_the_second_waits_and_runs_nothing_again(
    run: Run, project: Path
) -> None:
    run("rm -rf artifacts .dvc/cache/runs dvc.lock")
    command = [sys.executable, "-m", "pipeline.wait", "dvc", "repro", "promote"]
    both = [
        subprocess.Popen(
            command, cwd=project, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(2)
    ]
    outputs = [repro.communicate()[0] for repro in both]
    assert [repro.returncode for repro in both] == [0, 0], outputs
    assert sorted(output.count("Running stage 'train'") for output in outputs) == [0, 1]
    assert sum("waiting for another command" in output for output in outputs) == 1
