"""The DVC pipeline as a user runs it, in a copy of the project, with one epoch a training."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import Run
from mlflow import MlflowClient

from pipeline.artifacts import KEYS, sha256
from pipeline.data import RAW
from pipeline.study.claims import CLAIMS

STAGES = ["train", "export", "certify", "study"]


def stages_run(output: str) -> list[str]:
    return [stage for stage in STAGES if f"Running stage '{stage}'" in output]


def runs(project: Path) -> dict[str, list[str]]:
    """The learning rates of every finished run in the project's store, by network."""
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("mnist-batchnorm")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], order_by=["start_time"])
    assert {run.info.status for run in found} == {"FINISHED"}
    return {
        key: [run.data.params["lr"] for run in found if run.info.run_name == key] for key in KEYS
    }


@pytest.fixture(scope="module", autouse=True)
def first_repro(run: Run) -> str:
    return run("dvc repro").stdout


def test_repro_makes_everything_from_nothing(project: Path, first_repro: str) -> None:
    assert stages_run(first_repro) == STAGES
    certificate = json.loads((project / "artifacts/certificate.json").read_text())
    assert certificate["passed"]
    assert certificate["images"] == 10_000
    assert set(certificate["flipped"].values()) == {0}
    assert runs(project) == {key: ["0.01"] for key in KEYS}


def test_a_run_of_committed_code_is_not_dirty(project: Path) -> None:
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run, *_) = client.search_runs(["1"])
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project, text=True)
    assert run.data.tags["git.dirty"] == "false"
    assert run.data.tags["mlflow.source.git.commit"] == head.strip()


def test_nothing_changed_runs_nothing(run: Run) -> None:
    assert stages_run(run("dvc repro").stdout) == []


def test_a_certify_parameter_reruns_certify_alone(run: Run) -> None:
    output = run("sed -i 's/request_size: 500/request_size: 1000/' params.yaml && dvc repro").stdout
    assert stages_run(output) == ["certify"]


def test_a_study_parameter_reruns_the_study_alone_and_records_it_apart(
    run: Run, project: Path
) -> None:
    output = run("sed -i 's/scale_epochs: 2/scale_epochs: 3/' params.yaml && dvc repro").stdout
    assert stages_run(output) == ["study"]
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("mnist-batchnorm-study")
    assert experiment is not None
    studies = client.search_runs([experiment.experiment_id])
    assert sorted(study.data.params["scale_epochs"] for study in studies) == ["2", "3"]


def test_a_certificate_that_does_not_pass_fails_the_stage_and_can_be_read(
    run: Run, project: Path
) -> None:
    tighten = "sed -i 's/max_abs_difference: 0.0001/max_abs_difference: 1.0e-12/' params.yaml"
    output = run(f"{tighten} && dvc repro", status=255).stdout
    assert "certify.max_abs_difference = 1e-12" in output
    assert not json.loads((project / "artifacts/certificate.json").read_text())["passed"]
    run("git checkout -q params.yaml && dvc repro")


def test_metrics_and_plots_show_both_networks(run: Run, project: Path) -> None:
    metrics = json.loads(run("dvc metrics show --json").stdout)[""]["data"]
    assert set(metrics["artifacts/metrics.json"]["data"]) == set(KEYS)
    assert metrics["artifacts/certificate.json"]["data"]["passed"]
    assert len(metrics["artifacts/study/verdicts.json"]["data"]) == len(CLAIMS)
    page = Path(run("dvc plots show").stdout.strip().removeprefix("file://")).read_text()
    for key in KEYS:
        assert f'"filename": "{key}/history.csv"' in page
        assert f'"field": "{key}"' in page  # the study's means have a column a network


def test_an_experiment_in_a_copy_lands_in_the_same_store_and_reruns_what_hangs_on_it(
    run: Run, project: Path
) -> None:
    run("git add dvc.lock && git commit -q -m lock")
    output = run("dvc exp run --temp -S train.lr=0.05").stdout
    assert stages_run(output) == ["train", "export", "certify"]
    assert runs(project) == {key: ["0.01", "0.05"] for key in KEYS}
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    changed = client.search_runs(["1"], "params.lr = '0.05'")
    assert {run.data.tags["git.dirty"] for run in changed} == {"true"}
    assert "0.05" in run("dvc exp show --csv").stdout
    assert run("dvc metrics diff $(dvc exp list --name-only) HEAD").stdout


def test_push_and_pull_bring_back_data_and_artifacts(run: Run, project: Path) -> None:
    before = sha256(project / "artifacts/batchnorm_mlp/model.onnx")
    run("dvc remote add --default store ../remote && dvc push -q")
    run("rm -rf data artifacts .dvc/cache && dvc pull -q && dvc remote remove store")
    assert sha256(project / "artifacts/batchnorm_mlp/model.onnx") == before
    assert "all four digests are right" in run("python -m pipeline.data").stdout
    assert stages_run(run("dvc repro").stdout) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("s/lr: 0.01/lr: -1.0/", "train.lr must be greater than 0, got -1.0"),
        ("s/lr: 0.01/learning_rate: 0.01/", "train.learning_rate is not a known parameter"),
        ("s/lr: 0.01/lr: 1.0e+30/", "at epoch 1, step "),
    ],
)
def test_an_impossible_parameter_stops_the_pipeline(run: Run, change: str, message: str) -> None:
    output = run(f"sed -i '{change}' params.yaml; dvc repro", status=255).stdout
    assert message in output
    assert "Traceback" not in output
    assert stages_run(output) == ["train"]
    run("git checkout -q params.yaml && dvc checkout -q")


def test_a_changed_byte_of_data_is_an_error_and_never_pinned_anew(run: Run, project: Path) -> None:
    path = project / "data" / RAW / "t10k-labels-idx1-ubyte"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    output = run("dvc repro --force", status=255).stdout
    assert f"{path} is not MNIST's" in output
    assert path.name in run("python -m pipeline.data", status=1).stdout
    assert run("git status --porcelain data.dvc").stdout == ""
    path.write_bytes(whole)
    run("dvc checkout -q")


@pytest.mark.parametrize(
    ("moment", "run_again"),
    [
        ("Running stage 'train'", ["train", "export", "certify"]),
        ("epoch 1/1", ["train", "export", "certify"]),
        ("Running stage 'certify'", ["certify"]),
    ],
)
def test_killed_at_any_moment_the_next_repro_ends_as_if_nothing_had_been(
    run: Run, project: Path, moment: str, run_again: list[str]
) -> None:
    files = [f"artifacts/{key}/weights.safetensors" for key in KEYS]
    files.append("artifacts/batchnorm_mlp/model.onnx")
    run("dvc repro promote")
    recorded = runs(project)
    expected = [sha256(project / file) for file in files]
    shutil.rmtree(project / ".dvc/cache")  # or DVC would restore what it need not run

    killed = subprocess.Popen(
        ["dvc", "repro", "--force", "promote"], cwd=project, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert killed.stdout is not None
    assert any(moment in line for line in killed.stdout)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    output = run("python -m pipeline.wait dvc repro promote").stdout
    assert stages_run(output) == run_again
    assert [sha256(project / file) for file in files] == expected
    assert runs(project) == recorded
