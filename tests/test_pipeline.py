"""The DVC pipeline as a user runs it, in a copy of the project, with one epoch per training."""

import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest
from mlflow import MlflowClient

from models import NETWORKS
from pipeline.core.files import ROOT, sha256
from pipeline.data.dataset import RAW
from tests.support import Run, set_param, start, wait_for

STAGES = ["rehearse", "train", "export", "certify", "study"]  # and promote, at every repro
REPRO = "dvc repro --all-pipelines"  # the study's too
MODEL = "artifacts/export/batchnorm_mlp.onnx"


def stages_run(output: str) -> list[str]:
    return [
        stage for stage in STAGES if re.search(f"Running stage '(study/dvc.yaml:)?{stage}'", output)
    ]


def client_of(project: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project}/mlflow.db")


def runs(project: Path) -> dict[str, list[str]]:
    """Return the learning rates of all runs in the project's store, by network."""
    experiment = client_of(project).get_experiment_by_name("mnist-batchnorm")
    assert experiment is not None
    found = client_of(project).search_runs([experiment.experiment_id], order_by=["start_time"])
    return {
        key: [
            run.data.params["lr"]
            for run in found
            if run.data.params["network"] == key and run.info.status == "FINISHED"
        ]
        for key in NETWORKS
    }


@contextmanager
def restored(run: Run) -> Iterator[None]:
    """Undo afterwards what the block does to committed files and DVC's outputs."""
    try:
        yield
    finally:
        run("git checkout -q . && dvc checkout -q --force")


def add_comment(path: Path) -> None:
    assert path.is_file()
    with path.open("a") as file:
        file.write("\n# edited\n")


def test_repro_makes_everything_from_nothing_and_asks_no_proxy(finished_project: Path) -> None:
    project = finished_project
    assert stages_run(project.with_name("repro.txt").read_text()) == STAGES
    certificate = json.loads((project / "artifacts/certify/certificate.json").read_text())
    assert certificate["passed"]
    assert certificate["images"] == 10_000
    assert set(certificate["flipped"].values()) == {0}
    certified = certificate["other_networks"]
    assert {key: its["passed"] for key, its in certified.items()} == {"simple_mlp": True}
    assert runs(project) == {key: ["0.01"] for key in NETWORKS}


def test_a_run_of_committed_code_is_not_dirty(run: Run, project: Path) -> None:
    (first, *_) = client_of(project).search_runs(["1"])
    assert first.data.tags["git.dirty"] == "false"
    commit = run("git rev-parse HEAD^").stdout.strip()  # the last one added the results
    assert first.data.tags["mlflow.source.git.commit"] == commit


def test_the_graph_starts_at_the_data(run: Run) -> None:
    edges = re.findall(r'"([\w./]+)" -> "([\w./:]+)"', run("dvc dag --dot").stdout)
    below = {stage for above, stage in edges if above == "data.dvc"}
    assert below == {"train", "export", "certify", "promote", "study/dvc.yaml:study"}
    assert ("rehearse", "train") in edges
    assert ("train", "export") in edges
    assert ("export", "certify") in edges
    assert ("certify", "promote") in edges


def test_nothing_changed_runs_nothing_but_promote_which_judges_nothing_again(
    run: Run, project: Path
) -> None:
    before = (project / "artifacts/promotion.json").read_bytes()
    output = run(REPRO).stdout
    assert stages_run(output) == []
    assert "Running stage 'promote'" in output
    assert (project / "artifacts/promotion.json").read_bytes() == before
    assert run("git status --porcelain").stdout == ""


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("models/mlp.py", STAGES),
        ("pipeline/data/load.py", STAGES),
        ("pipeline/rehearse/rehearsal.py", ["rehearse"]),
        ("pipeline/train/step.py", ["rehearse", "train", "study"]),
        ("pipeline/export/fold.py", ["rehearse", "export", "certify"]),
        ("pipeline/certify/figure.py", ["certify"]),
        ("serve/model/drift.py", ["rehearse", "export", "certify"]),
        ("serve/http/app.py", ["certify"]),
        ("pipeline/adapt/re_estimate/__init__.py", ["study"]),
        ("pipeline/study/figures.py", ["study"]),
    ],
)
def test_an_edited_file_reruns_the_stages_that_depend_on_it(
    run: Run, project: Path, file: str, stages: list[str]
) -> None:
    add_comment(project / file)
    output = run(f"{REPRO} --dry; git checkout -q .").stdout
    assert stages_run(output) == stages


def test_editing_the_page_the_deployment_tracking_or_promote_reruns_promote_alone(
    run: Run, project: Path
) -> None:
    add_comment(project / "serve/page/style.css")
    add_comment(project / "serve/deploy/Dockerfile")
    add_comment(project / "pipeline/tracking/runs.py")
    add_comment(project / "pipeline/adapt/flow.py")
    add_comment(project / "pipeline/trace/run_checks.py")
    report = project / "pipeline/promote/promotion.py"
    report.write_text(report.read_text().replace("previous champion", "champion before it"))
    output = run(f"{REPRO} --dry; git checkout -q .").stdout
    assert stages_run(output) == []
    assert "Running stage 'promote'" in output


@pytest.mark.slow
def test_an_edited_figure_of_certify_is_drawn_without_training(run: Run, project: Path) -> None:
    with restored(run):
        path = project / "pipeline/certify/figure.py"
        path.write_text(path.read_text().replace("limit on test images", "the limit"))
        before = sha256(project / "artifacts/certify/certificate.png")
        assert stages_run(run("dvc repro certify").stdout) == ["certify"]
        assert sha256(project / "artifacts/certify/certificate.png") != before


@pytest.mark.slow
def test_train_fails_if_its_parameters_change_while_it_runs(run: Run, project: Path) -> None:
    lock = (project / "dvc.lock").read_bytes()
    with restored(run):
        training = start(project, "dvc repro --force train")
        output = wait_for(training, "epoch 1/1")
        set_param(project, "train.seed", 1)
        output += training.communicate()[0]
        assert training.returncode == 255
        assert "error: params.yaml: train changed while `train` was running" in output
        assert "Traceback" not in output
        assert (project / "dvc.lock").read_bytes() == lock
        assert stages_run(run("dvc repro --dry train").stdout) == ["train"]


@pytest.mark.parametrize(
    ("name", "value"), [("certify.request_size", 1000), ("study.scale_epochs", 3)]
)
def test_a_parameter_of_a_last_stage_reruns_that_stage_alone(
    run: Run, project: Path, name: str, value: int
) -> None:
    set_param(project, name, value)
    output = run(f"{REPRO} --dry; git checkout -q .").stdout
    assert stages_run(output) == [name.partition(".")[0]]


@pytest.mark.slow
def test_a_certificate_that_does_not_pass_fails_the_stage_and_can_be_read(
    run: Run, project: Path
) -> None:
    with restored(run):
        set_param(project, "certify.max_abs_difference", 1e-12)
        output = run("dvc repro", status=255).stdout
        assert "certify.max_abs_difference = 1e-12" in output
        assert not json.loads((project / "artifacts/certify/certificate.json").read_text())[
            "passed"
        ]


@pytest.mark.slow
def test_a_wrong_file_of_a_network_that_is_not_deployed_fails_the_stage_too(
    run: Run, project: Path
) -> None:
    with restored(run):
        deployed = project / "artifacts/export/batchnorm_mlp.onnx"
        shutil.copy(deployed, project / "artifacts/export/simple_mlp.onnx")
        output = run("python -m pipeline.certify", status=1).stdout
        assert "do not answer as PyTorch does: SimpleMLP." in output


@pytest.mark.slow
def test_each_exported_file_is_what_a_fresh_export_makes(run: Run) -> None:
    run(
        "python -c 'from pipeline.export.build import *; assert all("
        "build(key) == files.model_path(key).read_bytes() for key in NETWORKS)'"
    )


def test_metrics_and_plots_show_both_networks(run: Run, project: Path) -> None:
    table = run("dvc metrics show").stdout
    assert max(len(line) for line in table.splitlines()) <= 100
    metrics = json.loads(run("dvc metrics show --json").stdout)[""]["data"]
    for name in ("test_accuracy", "parameters"):
        assert set(metrics[f"metrics/{name}.json"]["data"]) == set(NETWORKS)
    assert set(metrics["metrics/certificate.json"]["data"]) == {
        "passed",
        "flipped",
        "max_diff_millionths",
    }
    run("dvc plots show")
    page = (project / "dvc_plots/index.html").read_text()
    for key in NETWORKS:
        assert f'"network": "{key}"' in page
    assert '"prediction"' in page  # the confusion matrix


@pytest.mark.slow
def test_a_new_network_takes_a_class_and_a_row_and_everything_shows_it(
    run: Run, project: Path
) -> None:
    text = (ROOT / "docs/make-it-yours.md").read_text()
    code, row, *_ = (dedent(block) for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    module, table = project / "models/layernorm.py", project / "models/__init__.py"
    with restored(run):
        module.write_text(code)
        table.write_text(table.read_text().replace("\n}\n", f"\n    {row}}}\n"))
        run("dvc repro certify")
        accuracies = json.loads((project / "metrics/test_accuracy.json").read_text())
        certificate = json.loads((project / "artifacts/certify/certificate.json").read_text())
        run("dvc plots show")
        page = (project / "dvc_plots/index.html").read_text()
        served = run(
            "python -c 'from serve.model.source import exported; print(exported())'"
        ).stdout
    module.unlink()
    assert accuracies["layernorm_mlp"] > 0.8
    assert certificate["other_networks"]["layernorm_mlp"]["passed"]
    assert page.count('"network": "layernorm_mlp"') > 10_000  # each answer, and each epoch
    assert "artifacts/export/layernorm_mlp.onnx" in served
    trained = client_of(project).search_runs(["1"], "params.network = 'layernorm_mlp'")
    assert [one.info.status for one in trained] == ["FINISHED"]


def test_metrics_can_be_compared_on_a_fresh_clone(run: Run, project: Path, tmp_path: Path) -> None:
    run(f"git clone -q . {shlex.quote(str(tmp_path / 'clone'))}")
    assert run(f"cd {shlex.quote(str(tmp_path / 'clone'))} && dvc metrics diff HEAD").stdout == ""
    changed = tmp_path / "clone/metrics/test_accuracy.json"
    changed.write_text(json.dumps({"simple_mlp": 0.5, "batchnorm_mlp": 0.6}))
    output = run(f"cd {shlex.quote(str(tmp_path / 'clone'))} && dvc metrics diff HEAD").stdout
    assert "simple_mlp" in output
    assert max(len(line) for line in output.splitlines()) <= 100


@pytest.mark.slow
def test_an_experiment_in_a_copy_reads_its_own_data_and_is_recorded_in_the_projects_store(
    run: Run, project: Path
) -> None:
    champion = client_of(project).get_model_version_by_alias("mnist-batchnorm", "champion")
    run("rm -r data")  # so that only DVC can bring it into the copy
    output = run("dvc exp run --temp -S train.lr=0.05").stdout
    run("dvc checkout -q data.dvc")
    assert stages_run(output) == ["train", "export", "certify"]
    assert {lrs[-1] for lrs in runs(project).values()} == {"0.05"}
    changed = client_of(project).search_runs(["1"], "params.lr = '0.05'")
    assert {run.data.tags["git.dirty"] for run in changed} == {"true"}
    (experiment,) = run("dvc exp list --name-only").stdout.split()
    assert {run.info.run_name for run in changed} == {f"{key} ({experiment})" for key in NETWORKS}
    assert {run.data.tags["dvc.exp"] for run in changed} == {experiment}
    assert f"recorded, and not promoted: {experiment} is an experiment" in output
    after = client_of(project).get_model_version_by_alias("mnist-batchnorm", "champion")
    assert after.version == champion.version
    versions = "name = 'mnist-batchnorm'"
    assert len(client_of(project).search_model_versions(versions)) == 1
    assert "0.05" in run("dvc exp show --only-changed --drop '.*/'").stdout
    assert run("dvc metrics diff $(dvc exp list --name-only) HEAD").stdout
    with restored(run):
        assert "Running stage 'train'" not in run(f"dvc exp apply {experiment} && dvc repro").stdout
    assert len(client_of(project).search_model_versions(versions)) == 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.lr", -1.0, "train.lr must be greater than 0, got -1.0"),
        ("train.learning_rate", 0.01, "train.learning_rate is not a known parameter"),
        pytest.param("train.lr", 1e30, "at epoch 1, step ", marks=pytest.mark.slow),
    ],
)
def test_an_impossible_parameter_stops_the_pipeline(
    run: Run, project: Path, name: str, value: float, message: str
) -> None:
    with restored(run):
        set_param(project, name, value)
        output = run("dvc repro", status=255).stdout
        assert message in output
        assert "Traceback" not in output
        assert stages_run(output) == ["train"]


def test_a_changed_byte_of_data_stops_the_pipeline_and_the_errors_advice_restores_it(
    run: Run, project: Path
) -> None:
    path = project / "data" / RAW / "t10k-labels-idx1-ubyte"
    content = path.read_bytes()
    with restored(run):
        path.chmod(0o644)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert f"{path} is not MNIST's" in run("python -m pipeline.data", status=1).stdout
        output = run("dvc repro", status=255).stdout
        assert f"{path} is not MNIST's" in output
        assert "Traceback" not in output
        assert stages_run(output) == ["train"]
        (advice,) = set(re.findall("run `(git [^`]*)`", output))
        assert advice == "git checkout data.dvc && dvc checkout --force data.dvc"
        run(advice)
        assert path.read_bytes() == content
        assert stages_run(run("dvc repro").stdout) == []
        assert run("git status --porcelain").stdout == ""


@pytest.mark.slow
def test_push_and_pull_bring_back_data_and_artifacts(run: Run, project: Path) -> None:
    before = sha256(project / MODEL)
    run("dvc remote add --default store ../remote && dvc push -q")
    run("rm -rf data artifacts/[!s]* .dvc/cache && dvc pull -q && dvc remote remove store")
    assert sha256(project / MODEL) == before
    assert "all 4 digests match" in run("python -m pipeline.data").stdout
    assert stages_run(run("dvc repro --dry").stdout) == []


@pytest.mark.parametrize("stage", [*STAGES, "promote", "trace"])
def test_help_is_printed_and_nothing_runs(run: Run, project: Path, stage: str) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (project / "artifacts").rglob("*")}

    before = times()
    output = run(f"python -m pipeline.{stage} --help").stdout
    assert output.startswith(f"usage: python -m pipeline.{stage} [-h]")
    assert "show this help message and exit" in output
    assert times() == before


@pytest.mark.slow
def test_killed_at_three_moments_training_again_ends_with_the_same_files_and_runs_of_its_own(
    run: Run, project: Path
) -> None:
    files = [f"artifacts/train/{key}.safetensors" for key in NETWORKS] + [MODEL]
    run("dvc repro promote")
    champion = client_of(project).get_model_version_by_alias("mnist-batchnorm", "champion")
    recorded = runs(project)
    expected = [sha256(project / file) for file in files]
    begun = {one.info.run_id for one in client_of(project).search_runs(["1"])}
    run("rm -r .dvc/cache && dvc commit -q data.dvc")  # or DVC would restore what it need not run

    command = "dvc --wait-for-lock repro --force promote"
    for moment in ("Running stage 'train'", "epoch 1/1", "Running stage 'certify'"):
        killed = start(project, command)
        output = wait_for(killed, moment)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert "Running stage 'train'" in output  # a killed stage counts for nothing
        command = "dvc --wait-for-lock repro promote"
    assert stages_run(run(command).stdout) == ["certify"]
    assert [sha256(project / file) for file in files] == expected
    assert run("git status --porcelain").stdout == ""
    after = client_of(project).get_model_version_by_alias("mnist-batchnorm", "champion")
    assert after.version == champion.version
    assert runs(project) == {key: [*lrs, "0.01"] for key, lrs in recorded.items()}
    found = client_of(project).search_runs(["1"])
    statuses = {one.info.status for one in found if one.info.run_id not in begun}
    assert statuses <= {"FINISHED", "KILLED"}
