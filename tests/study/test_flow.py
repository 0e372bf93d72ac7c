"""The study's flow on processes of this machine and on a Dask cluster of two workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster

from pipeline.core import files
from pipeline.core.params import StudyParams, load_params
from pipeline.study import flow, outcome
from pipeline.study.experiments import EXPERIMENTS, Tables, write_tables
from pipeline.tracking.record import Record, read_record
from tests.support import write_below

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """The study's records when they would be recorded in MLflow."""
    recorded: list[Record] = []
    monkeypatch.setattr(
        flow, "record_or_warn", lambda: recorded.append(read_record("study", "study"))
    )
    return recorded


def digests(folder: Path) -> dict[str, str]:
    written = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): files.sha256(path) for path in written}


def run(
    names: Sequence[str], folder: Path, params: StudyParams, patch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Run the flow with some experiments; return the digests of the tables that it writes."""

    def write_verdicts(tables: Tables, _params: StudyParams) -> str:  # the report takes all tables
        write_tables(tables)
        files.write_json(files.VERDICTS, {})
        return ""

    write_below(folder, patch)
    patch.setattr(flow, "EXPERIMENTS", {name: EXPERIMENTS[name] for name in names})
    patch.setattr(flow, "write_report", write_verdicts)
    whole = load_params().model_copy(update={"study": params})
    patch.setattr(flow, "load_params", lambda: whole)
    study = flow.study.with_options(task_runner=flow.task_runner())
    state = study(return_state=True)
    assert state.is_completed(), state.message
    return digests(files.STUDY / "tables")


@pytest.fixture
def expected(
    study_tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The digests of what this very process has measured, one experiment after the other."""
    write_below(tmp_path / "expected", monkeypatch)
    write_tables(study_tables)
    return digests(files.STUDY / "tables")


@pytest.mark.slow
def test_a_dask_cluster_of_two_workers_gives_the_same_bytes_as_one_process(
    expected: dict[str, str],
    study_params: StudyParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("overfitting", "rates", "centering")  # the others run on processes, below
    # One thread per worker: tasks seed PyTorch's global generator.
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster:
        monkeypatch.setenv("STUDY_DASK_SCHEDULER", cluster.scheduler_address)
        found = run(names, tmp_path / "dask", study_params, monkeypatch)
    assert set(found) == {f"{name}.csv" for name in names}
    assert found.items() < expected.items()


@pytest.mark.slow
def test_processes_of_this_machine_give_the_same_bytes_as_one_process(
    expected: dict[str, str],
    study_params: StudyParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorded: list[Record],
) -> None:
    monkeypatch.delenv("STUDY_DASK_SCHEDULER", raising=False)
    names = ("speed", "scale", "activations")
    found = run(names, tmp_path / "processes", study_params, monkeypatch)
    assert set(found) == {f"{name}.csv" for name in (*names, "price", "histograms")}
    assert found.items() < expected.items()
    (record,) = recorded
    assert record.id


@pytest.mark.slow
def test_a_failing_task_ends_the_flow_with_its_reason(
    study_params: StudyParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDY_DASK_SCHEDULER", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    params = study_params.model_copy(update={"device": "cuda"})
    with pytest.raises(AssertionError, match=r"study\.device is 'cuda'"):
        run(list(EXPERIMENTS), tmp_path, params, monkeypatch)
    assert not files.STUDY.exists()


def test_the_stage_ends_with_how_many_claims_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "VERDICTS", tmp_path / "verdicts.json")
    verdicts = ("holds", "cannot tell", "holds", "does not hold")
    files.write_json(files.VERDICTS, {f"claim {i}": {"verdict": v} for i, v in enumerate(verdicts)})
    monkeypatch.setattr(outcome, "run_flow", lambda _flow: None)
    outcome.run()
    assert capsys.readouterr().out == (
        "2 of 4 claims about batch normalization hold; see artifacts/study/report.html\n"
    )


@pytest.mark.slow
def test_a_killed_flow_leaves_no_worker_behind() -> None:
    script = """if __name__ == "__main__":
        from pipeline.study.flow import *
        from concurrent.futures import ProcessPoolExecutor
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(1, spawn, initializer=end_with_parent)
        print(pool.submit(os.getpid).result(), flush=True)
        threading.Event().wait()
    """
    command = [sys.executable, "-c", script]
    flow_process = subprocess.Popen(command, cwd=files.ROOT, stdout=subprocess.PIPE, text=True)
    assert flow_process.stdout
    worker = psutil.Process(int(flow_process.stdout.readline()))
    assert worker.is_running()
    flow_process.kill()
    flow_process.communicate()
    worker.wait(timeout=10)


def has_workers(study: psutil.Process) -> bool:
    try:
        return any("spawn_main" in " ".join(child.cmdline()) for child in study.children())
    except psutil.NoSuchProcess:  # such as `git`, which has just ended
        return False


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0, 1, 4])  # as workers start, import, and measure
def test_ctrl_c_prints_one_line_and_leaves_no_worker_behind(
    delay_s: float, new_project: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.study"],
        cwd=new_project,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as study:
        try:
            process = psutil.Process(study.pid)
            while not has_workers(process):
                assert study.poll() is None
                time.sleep(0.02)
            time.sleep(delay_s)
            children = process.children(recursive=True)
            os.killpg(study.pid, signal.SIGINT)
            output, _ = study.communicate(timeout=60)
        finally:
            study.kill()
    assert [line.split(":")[0] for line in output.splitlines()] == ["interrupted"], output
    _, left = psutil.wait_procs(children, timeout=10)
    assert not left
