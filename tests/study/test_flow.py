"""The study's flow on processes of this machine and on a Dask cluster of two workers."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster
from prefect import State
from prefect.states import Completed

from pipeline.core import files
from pipeline.core.params import StudyParams, load_params
from pipeline.study import flow, report
from pipeline.study.experiments import EXPERIMENTS
from pipeline.study.tables import Tables, write_table

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw none: test_report.py shows that the same tables give the same figures."""
    monkeypatch.setattr(report, "FIGURES", {})
    monkeypatch.setattr(report, "to_html", lambda _report: "")


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would be recorded in MLflow."""
    recorded: list[str] = []

    def record(what: str) -> State:
        recorded.append(what)
        return Completed()

    monkeypatch.setattr(flow, "record_results", record)
    return recorded


def write_below(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(files, "STUDY", folder)
    patch.setattr(files, "VERDICTS", folder / "verdicts.json")
    patch.setattr(files, "STUDY_PROVENANCE", folder.with_name("provenance.json"))
    patch.setattr(files, "STUDY_EXECUTION", folder.with_name("execution.json"))


def digests(folder: Path) -> dict[str, str]:
    written = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): files.sha256(path) for path in written}


def run(folder: Path, params: StudyParams, patch: pytest.MonkeyPatch) -> dict[str, str]:
    """Run the flow; return the digest of every file that it writes, but for its provenance."""
    write_below(folder, patch)
    whole = load_params().model_copy(update={"study": params})
    patch.setattr(flow, "load_params", lambda: whole)
    study = flow.study.with_options(task_runner=flow.task_runner())
    state = study(return_state=True)
    assert state.is_completed(), state.message
    return digests(folder)


@pytest.fixture
def expected(
    study_tables: Tables, study_params: StudyParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The digests of what this very process has measured, one experiment after the other."""
    write_below(tmp_path / "expected", monkeypatch)
    for name, table in study_tables.items():
        write_table(name, table)
    report.write_report(study_params)
    return digests(tmp_path / "expected")


@pytest.mark.slow
def test_a_dask_cluster_of_two_workers_gives_the_same_bytes_as_one_process(
    expected: dict[str, str],
    study_params: StudyParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {"report.md", "verdicts.json", "tables/overfitting.csv"} < set(expected)
    # One thread per worker: tasks seed PyTorch's global generator.
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster:
        monkeypatch.setenv("STUDY_DASK_SCHEDULER", cluster.scheduler_address)
        assert run(tmp_path / "dask", study_params, monkeypatch) == expected


@pytest.mark.slow
def test_processes_of_this_machine_give_the_same_bytes_as_one_process(
    expected: dict[str, str],
    study_params: StudyParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorded: list[str],
) -> None:
    monkeypatch.delenv("STUDY_DASK_SCHEDULER", raising=False)
    some = ("speed", "scale", "activations")  # the others take most of the time
    monkeypatch.setattr(flow, "EXPERIMENTS", {name: EXPERIMENTS[name] for name in some})

    def write_verdicts(_params: StudyParams) -> str:  # the report takes every table
        files.write_json(files.VERDICTS, {})
        return ""

    monkeypatch.setattr(flow, "write_report", write_verdicts)
    found = run(tmp_path / "processes", study_params, monkeypatch)
    del found["verdicts.json"]
    assert set(found) == {f"tables/{name}.csv" for name in (*some, "histograms")}
    assert found.items() < expected.items()
    assert recorded == ["study"]
    execution = Execution.read(files.STUDY_EXECUTION, files.VERDICTS)
    assert execution
    assert execution.started_ms < execution.ended_ms[0]


@pytest.mark.slow
def test_a_failing_task_ends_the_flow_with_its_reason(
    study_params: StudyParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDY_DASK_SCHEDULER", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    params = study_params.model_copy(update={"device": "cuda"})
    with pytest.raises(AssertionError, match=r"study\.device is 'cuda'"):
        run(tmp_path, params, monkeypatch)
    assert list(tmp_path.iterdir()) == []


def test_the_stage_ends_with_how_many_claims_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "VERDICTS", tmp_path / "verdicts.json")
    verdicts = ("holds", "cannot tell", "holds", "does not hold")
    files.write_json(files.VERDICTS, {f"claim {i}": {"verdict": v} for i, v in enumerate(verdicts)})
    monkeypatch.setattr(flow, "run_flow", lambda _flow: None)
    flow.run()
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
