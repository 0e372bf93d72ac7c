"""The study's flow on processes of this machine and on a Dask cluster of two workers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster
from prefect.testing.utilities import prefect_test_harness

from pipeline.artifacts import ROOT, sha256
from pipeline.params import StudyParams, load_params
from pipeline.study import flow, report


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with prefect_test_harness():
        yield


def run(folder: Path, params: StudyParams, patch: pytest.MonkeyPatch) -> dict[str, str]:
    """The digest of every file that the study writes."""
    whole = load_params().model_copy(update={"study": params})
    patch.setattr(flow, "load_params", lambda: whole)
    patch.setattr(flow, "STUDY_PROVENANCE", folder.with_name("provenance.json"))
    patch.setattr(report, "STUDY", folder)
    patch.setattr(report, "VERDICTS", folder / "verdicts.json")
    study = flow.study.with_options(task_runner=flow.task_runner())
    state = study(return_state=True)
    assert state.is_completed(), state.message
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path) for path in files}


def test_a_dask_cluster_of_two_workers_gives_the_same_bytes_as_this_machine(
    study_params: StudyParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDY_DASK_SCHEDULER", raising=False)
    here = run(tmp_path / "here", study_params, monkeypatch)
    assert {"report.md", "verdicts.json"} < set(here)
    with LocalCluster(n_workers=2, dashboard_address=None) as cluster:
        monkeypatch.setenv("STUDY_DASK_SCHEDULER", cluster.scheduler_address)
        assert run(tmp_path / "dask", study_params, monkeypatch) == here


def test_a_failing_task_ends_the_flow_with_its_reason(
    study_params: StudyParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    params = study_params.model_copy(update={"device": "cuda"})
    with pytest.raises(AssertionError, match=r"study\.device is 'cuda'"):
        run(tmp_path, params, monkeypatch)
    assert list(tmp_path.iterdir()) == []


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
    flow_process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert flow_process.stdout
    worker = psutil.Process(int(flow_process.stdout.readline()))
    assert worker.is_running()
    flow_process.kill()
    flow_process.communicate()
    worker.wait(timeout=10)
