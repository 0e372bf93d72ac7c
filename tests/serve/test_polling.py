"""A model in MLflow's registry: polled without a trace, and never waited for without a word."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import onnx
import psutil
import pytest

from pipeline.core.files import ROOT
from tests.serve.other_models import write
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
    assert left == []
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


@pytest.mark.slow
@pytest.mark.parametrize("registered", [False, True], ids=["a file", "a registered model"])
def test_polling_an_unchanged_model_of_100_mb_costs_no_memory(
    tmp_path: Path, store: str, registered: bool, record_property: Record
) -> None:
    weights = onnx.numpy_helper.from_array(np.zeros((5000, 5000), np.float32), "weights")
    text = "large (float[N, 5000] x) => (float[N, 5000] y) { y = MatMul (x, weights) }"
    model = onnx.load(write(tmp_path, text))
    model.graph.initializer.append(weights)
    onnx.save(model, tmp_path / "large.onnx")
    if registered:
        register(store, tmp_path / "large.onnx", tmp_path / "artifacts")
    source = NAME if registered else tmp_path / "large.onnx"
    with serving(source, "--poll", "0.1", MLFLOW_TRACKING_URI=store) as (process, _):
        time.sleep(2)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        before = [member.memory_info().rss for member in family]
        time.sleep(3)
        growth = max(
            member.memory_info().rss - rss for member, rss in zip(family, before, strict=True)
        )
    record_property("growth", f"{growth / 2**20:.0f} MB")
    assert growth < 16 * 2**20


class Endless(BaseHTTPRequestHandler):
    """A registry that answers, as slowly as a network, with JSON that never ends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while self.wfile.write(b"[" * 2**22):
                time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.mark.slow
def test_an_endless_answer_of_the_registry_ends_with_its_process(
    tmp_path: Path, record_property: Record
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as registry:
        Thread(target=registry.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{registry.server_port}"
        folder, peak = tmp_path / "temporary", 0
        folder.mkdir()
        with subprocess.Popen(
            [sys.executable, "-m", "serve", "--model", NAME, "--port", "0"],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"MLFLOW_TRACKING_URI": address, "TMPDIR": str(folder)},
        ) as process:  # fmt: skip
            while process.poll() is None:
                with suppress(psutil.Error):
                    server = psutil.Process(process.pid)
                    family = [server, *server.children()]
                    peak = max([peak, *(member.memory_info().rss for member in family)])
                time.sleep(0.01)
            assert process.stderr
            assert "error: " in process.stderr.read()
        registry.shutdown()
    record_property("peak", f"{peak / 2**20:.0f} MB")
    assert peak < 1.5 * 2**30
    assert not list(folder.iterdir())
