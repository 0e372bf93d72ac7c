"""A model in MLflow's registry: polled without a trace, and never waited for without a word."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from pipeline.core.files import ROOT
from tests.serve.process import MODEL, Record, serving, wait_until
from tests.support import empty_store, free_port, silent

NAME = "models:/digits@champion"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URI of an empty MLflow store."""
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_store())
    return f"sqlite:///{path}"


def register(store: str, model: Path, folder: Path) -> None:
    """Register the file as the champion."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    if not client.search_registered_models():
        client.create_registered_model("digits")
    experiment = client.get_experiment_by_name("tests")
    number = (
        experiment.experiment_id
        if experiment
        else client.create_experiment("tests", artifact_location=folder.as_uri())
    )
    run = client.create_run(number)
    client.log_artifact(run.info.run_id, str(model), "model")
    source = f"{run.info.artifact_uri}/model"
    version = client.create_model_version("digits", source, run.info.run_id).version
    client.set_registered_model_alias("digits", "champion", version)


@pytest.mark.slow
def test_polling_leaves_no_folder_and_no_progress_bar(
    model: Path, other_model: Path, tmp_path: Path, store: str, record_property: Record
) -> None:
    register(store, model, tmp_path / "artifacts")
    folder, log = tmp_path / "temporary", tmp_path / "log"
    folder.mkdir()
    environment = {"MLFLOW_TRACKING_URI": store, "TMPDIR": str(folder)}
    with serving(NAME, "--poll", "0.1", log=log, **environment) as (process, address):
        version = httpx.get(address + MODEL).json()["versions"]
        register(store, other_model, tmp_path / "artifacts")
        wait_until(lambda: httpx.get(address + MODEL).json()["versions"] != version, 30)
        time.sleep(3)
        process.terminate()
        assert process.wait(20) == 0
    left = [path.name for path in folder.rglob("*")]
    record_property("seen", f"files of the poll that SIGTERM interrupted: {len(left)}")
    assert len([name for name in left if name.endswith(".onnx")]) <= 1  # SIGTERM during a poll
    assert "Downloading" not in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("state", ["hangs", "is gone"])
def test_a_start_without_mlflow_ends_within_20_s_with_one_line(
    state: str, record_property: Record
) -> None:
    with silent() as (silent_port, first_connection):
        port = silent_port if state == "hangs" else free_port()
        command = [sys.executable, "-m", "serve", "--model", NAME, "--port", "0"]
        start = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "MLflow" in line
        if state == "hangs":
            start = first_connection.result(timeout=0)  # without Python's imports
        waited = time.monotonic() - start
        record_property("seen", f"ended after {waited:.0f} s")
        assert waited < 20
