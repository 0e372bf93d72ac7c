"""What the commands import, which is most of what a short one takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.files import ROOT

# The slowest packages, none of which `--help` needs.
SLOW = {
    *("fastapi", "matplotlib", "mlflow", "onnx", "onnxruntime", "pandas", "prefect", "scipy.stats"),
    *("torch", "uvicorn"),
}
COMMANDS = [
    *("pipeline.data", "pipeline.rehearse", "pipeline.train", "pipeline.export"),
    *("pipeline.certify", "pipeline.promote"),
    *("pipeline.study", "pipeline.trace", "pipeline.tracking", "serve"),
]
PRINT = """
import runpy, sys
try:
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print(*sys.modules)
"""


def imported(*command: str, folder: Path = ROOT) -> set[str]:
    """Return the modules that a command has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT, *command], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_slow(command: str) -> None:
    assert imported(command, "--help") & SLOW == set()


def test_promote_with_nothing_to_do_neither_runs_the_model_nor_tests_anything(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    needless = SLOW - {"mlflow", "pandas", "fastapi"}  # which MLflow imports itself
    assert imported("pipeline.promote", folder=project) & needless == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["data", "tracking", "trace champion", "trace champion --json", "trace nothing --json"],
)
def test_a_command_whose_reader_has_left_prints_no_traceback(
    project: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as output:
        done = subprocess.run(
            [sys.executable, "-m", *f"pipeline.{command}".split()],
            cwd=project, stdout=output, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert "BrokenPipeError" not in done.stderr
    assert done.stderr.count("\n") <= 1  # the error about "nothing"
    assert done.returncode == 1


def test_data_imports_nothing_slow() -> None:
    assert imported("pipeline.data") & SLOW == set()
