"""What several test modules share that is not a fixture."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from ruamel.yaml import YAML
from torch import Tensor, nn

from bench.peers.triton import free_port as free_port  # for tests to import from here
from pipeline.core import files

Run = Callable[..., subprocess.CompletedProcess[str]]
PATHS = {
    name: path.relative_to(files.ROOT)
    for name, path in vars(files).items()
    if isinstance(path, Path) and path != files.ROOT and path.is_relative_to(files.ROOT)
}
INITDB = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=shutil.which("initdb"))


@contextmanager
def silent() -> Iterator[tuple[int, Future[float]]]:
    """Yield a port of 127.0.0.1 that takes connections and never answers, and the future time of
    the first connection, in seconds of time.monotonic()."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        connections = []

        def accept() -> float:
            connections.append(listener.accept()[0])  # the others wait in the system's queue
            return time.monotonic()

        try:
            yield listener.getsockname()[1], pool.submit(accept)
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # which ends the accept if nobody came
            for connection in connections:
                connection.close()


class Stranger(nn.Module):
    """A network that no module of the pipeline knows: LayerNorm, GELU and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 64)
        self.norm = nn.LayerNorm(64)
        self.dropout = nn.Dropout(0.2)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 10) float32 for images (B, 28, 28) float32."""
        x = nn.functional.gelu(self.norm(self.fc1(images.flatten(1))))  # (B, 64)
        return self.fc2(self.dropout(x))


@cache
def empty_store() -> bytes:
    """Return the content of a new MLflow store in SQLite, whose migrations take seconds."""
    from mlflow import MlflowClient  # takes seconds to import, which few tests need

    with TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db")
        return (Path(folder) / "mlflow.db").read_bytes()


def write_below(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let artifacts/, metrics/, the store and the locks lie in a folder."""
    for name, path in PATHS.items():
        patch.setattr(files, name, folder / path)


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables of a study in that folder, their floats exactly."""
    paths = (folder / "tables").glob("*.csv")
    return {path.stem: pd.read_csv(path, float_precision="round_trip") for path in paths}


def set_param(project: Path, name: str, value: object) -> None:
    """Set a parameter, "section.name", in the params.yaml of a copy of the project."""
    yaml, path = YAML(), project / "params.yaml"
    params = yaml.load(path)
    section, key = name.split(".")
    params[section][key] = value
    yaml.dump(params, path)


def start(project: Path, command: str) -> subprocess.Popen[str]:
    """Start a command in a session of its own, without MLflow's settings."""
    return subprocess.Popen(
        command.split(),
        cwd=project,
        env={name: value for name, value in os.environ.items() if "MLFLOW" not in name},
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def wait_for(process: subprocess.Popen[str], moment: str) -> str:
    """Return the process's output up to the line that has the text."""
    output = ""
    assert process.stdout is not None
    for line in process.stdout:
        output += line
        if moment in line:
            return output
    raise AssertionError(f"no {moment!r} in:\n{output}")


def install(folder: Path, *requirements: str) -> Path:
    """Install packages in an environment of their own, and return the folder of its commands; skip
    the test if the package index does not have them."""
    for command in (
        ["uv", "venv", "--quiet", "--python", sys.executable, str(folder)],
        ["uv", "pip", "install", "--quiet", "--python", str(folder / "bin/python"), *requirements],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs {requirements} from the package index: {done.stderr.strip()}")
    return folder / "bin"
