"""Tracing an answer back to its data, promoting and rolling back, in a copy of the project."""

import json
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from models import NETWORKS
from pipeline.core.files import sha256
from pipeline.data.dataset import DIGESTS, RAW
from tests.support import Run, free_port, set_param

Printed = Callable[..., str]
Trace = Callable[..., dict[str, Any]]

MODEL = "artifacts/export/batchnorm_mlp.onnx"
CHAMPION = "models:/mnist-batchnorm@champion"
BEFORE_DATA = [
    "answer",
    "model",
    "version",
    "certificate",
    "model card",
    "data card",
    "weights",
    "run",
    "parameters",
    "metrics",
    "commit",
    "data",
]


@contextmanager
def running(command: str, project: Path, path: str) -> Iterator[httpx.Client]:
    """Run a server in the copy of the project until it answers at a path; {port} is a free one."""
    port = free_port()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}
    server = subprocess.Popen(
        shlex.split(command.format(port=port)),
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        try:
            for _ in range(600):
                try:
                    client.get(path).raise_for_status()
                    break
                except httpx.HTTPError:
                    assert server.poll() is None, f"{command} stopped"
                    time.sleep(0.1)
            yield client
        finally:
            server.terminate()
            server.wait()


@pytest.fixture(scope="module", autouse=True)
def answer(trace: Trace, project: Path) -> str:
    """The answer to docs/seven.json, from a model that was trained, promoted and served here."""
    with running(
        f"{shlex.quote(sys.executable)} -m serve --port {{port}}", project, "/v2"
    ) as client:
        request = (project / "docs/seven.json").read_bytes()
        response = client.post("/v2/models/batchnorm_mlp/infer", content=request)
        whole = trace(str(client.base_url))
    names = [*BEFORE_DATA, *DIGESTS]
    assert [(link["name"], link["state"]) for link in whole["links"]] == [(n, "ok") for n in names]
    (project / "answer.json").write_bytes(response.content)
    return "answer.json --request docs/seven.json"


@pytest.fixture(scope="module")
def printed(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    """Return what `python -m pipeline.trace` prints to stdout; see tracer.py."""
    output = tmp_path_factory.mktemp("trace") / "output"
    command = [sys.executable, "tests/trace/tracer.py"]
    with subprocess.Popen(
        command, cwd=project, env=os.environ | {"PYTHONPATH": str(project)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as tracer:  # fmt: skip
        assert tracer.stdin
        assert tracer.stdout

        def printed(what: str, status: int = 0, store: str = "") -> str:
            assert tracer.stdin
            assert tracer.stdout
            tracer.stdin.write(json.dumps([store, str(output), *shlex.split(what)]) + "\n")
            tracer.stdin.flush()
            assert int(tracer.stdout.readline()) == status
            return output.read_text()

        yield printed
        tracer.stdin.close()


@pytest.fixture(scope="module")
def trace(printed: Printed) -> Trace:
    """Return what `python -m pipeline.trace --json` prints, parsed."""
    return lambda what, status=0, store="": json.loads(printed(f"{what} --json", status, store))


def gaps(trace: Trace, what: str) -> list[str]:
    links = trace(what, status=1)["links"]
    return [link["name"] for link in links if link["state"] in ("broken", "missing")]


def client_of(project: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project}/mlflow.db")


def runs(project: Path) -> list[MlflowRun]:
    return client_of(project).search_runs(["1"], order_by=["start_time"])


def champion(project: Path) -> str:
    """Return the SHA-256 of the champion's file in the registry."""
    version = client_of(project).get_model_version_by_alias("mnist-batchnorm", "champion")
    folder = client_of(project).get_logged_model(version.source.removeprefix("models:/"))
    path = Path(folder.artifact_location.removeprefix("file://")) / "model.onnx"
    assert version.tags["model.sha256"] == sha256(path)
    return sha256(path)


@contextmanager
def changed(path: Path, position: int) -> Iterator[None]:
    """Change one byte of a file for the duration of the block."""
    whole = path.read_bytes()
    part = bytearray(whole)
    part[position] ^= 1
    path.chmod(0o644)
    path.write_bytes(part)
    try:
        yield
    finally:
        path.write_bytes(whole)


@contextmanager
def changed_store(project: Path, statement: str, *values: str) -> Iterator[None]:
    """Run a statement that changes rows of MLflow's store, for the duration of the block."""
    store = project / "mlflow.db"
    whole = store.read_bytes()
    with closing(sqlite3.connect(store)) as database, database:
        assert database.execute(statement, values).rowcount
    try:
        yield
    finally:
        store.write_bytes(whole)


def changed_in_store(
    project: Path, table: str, key: str, value: str
) -> AbstractContextManager[None]:
    """Change a value in MLflow's store, wherever it occurs, for the duration of the block."""
    update = f"UPDATE {table} SET value = ? WHERE key = ?"  # noqa: S608
    return changed_store(project, update, value, key)


def test_the_chain_is_whole_from_every_end(
    run: Run, trace: Trace, project: Path, answer: str
) -> None:
    by_name = {one.info.run_name: one.info.run_id for one in runs(project)}
    for what in (answer, MODEL, "champion", by_name["batchnorm_mlp"], by_name["simple_mlp"]):
        chain = trace(what)
        assert chain["whole"]
        assert {link["state"] for link in chain["links"]} == {"ok"}
    output = run("python -m pipeline.trace champion").stdout
    assert "the chain is whole" in output
    head = subprocess.check_output(["git", "rev-parse", "HEAD^"], cwd=project, text=True).strip()
    assert f"{head}, clean: project" in output


def test_an_answer_without_its_request_is_unchecked(printed: Printed, trace: Trace) -> None:
    (first, *_) = trace("answer.json")["links"]
    assert (first["name"], first["state"]) == ("answer", "unchecked")
    last = printed("answer.json").splitlines()[-1]
    assert last.startswith("the chain is whole but for the answer (pass its request by --request")


def test_a_changed_version_in_the_answer_breaks_the_answer(
    trace: Trace, project: Path, answer: str
) -> None:
    position = (project / "answer.json").read_text().index('"model_version":"') + 20
    with changed(project / "answer.json", position):
        assert gaps(trace, answer) == ["answer"]


def test_a_changed_digit_of_the_answer_breaks_the_answer(
    trace: Trace, project: Path, answer: str
) -> None:
    position = (project / "answer.json").read_text().index('"data":[') + 12
    with changed(project / "answer.json", position):
        assert gaps(trace, answer) == ["answer"]


@pytest.mark.parametrize(
    ("file", "what", "link"),
    [
        (MODEL, MODEL, "model"),
        ("artifacts/certify/certificate.json", "champion", "certificate"),
        ("artifacts/train/batchnorm_mlp.safetensors", "champion", "weights"),
        *((f"data/{RAW}/{name}", "champion", name) for name in DIGESTS),
    ],
)
def test_a_changed_byte_of_a_file_breaks_its_link(
    trace: Trace, project: Path, file: str, what: str, link: str
) -> None:
    with changed(project / file, 1000):
        assert gaps(trace, what) == [link]


def test_a_changed_byte_of_the_registrys_file_breaks_the_version(
    trace: Trace, project: Path
) -> None:
    (path,) = (project / "mlartifacts").rglob("model.onnx")
    with changed(path, 1000):
        assert gaps(trace, MODEL) == ["version"]
        assert gaps(trace, "champion") == ["model", "version"]


@pytest.mark.parametrize(
    ("card", "text", "link"),
    [
        ("model_card.md", b"value: 0.", "model card"),
        ("model_card.md", b"\nFor ", "model card"),
        ("croissant.json", b'"contentSize": "', "data card"),
    ],
)
def test_a_changed_number_in_a_card_breaks_the_card(
    trace: Trace, project: Path, card: str, text: bytes, link: str
) -> None:
    (path,) = (project / "mlartifacts").rglob(card)
    with changed(path, path.read_bytes().index(text) + len(text)):
        assert gaps(trace, "champion") == [link]


@pytest.mark.parametrize(
    ("statement", "link"),
    [
        ("UPDATE params SET value = '0.02' WHERE key = 'lr'", "parameters"),
        ("DELETE FROM latest_metrics WHERE key = 'test_accuracy'", "metrics"),
        ("DELETE FROM params WHERE key = 'network'", "parameters"),
    ],
)
def test_a_card_is_unchecked_while_a_value_in_it_is_changed_or_lost_elsewhere(
    trace: Trace, project: Path, statement: str, link: str
) -> None:
    with changed_store(project, statement):
        states = {one["name"]: one["state"] for one in trace("champion", 1)["links"]}
    assert (states["model card"], states[link]) == ("unchecked", "broken")


@pytest.mark.slow
def test_a_version_without_cards_lacks_them_until_the_next_repro(
    run: Run, trace: Trace, project: Path
) -> None:
    names = ("model_card", "croissant")
    for name in names:
        (path,) = (project / "mlartifacts").rglob(f"{name}.*")
        path.unlink()
        client_of(project).delete_model_version_tag("mnist-batchnorm", "1", f"{name}.sha256")
    links = {one["name"]: one for one in trace("champion", 1)["links"]}
    for card in ("model card", "data card"):
        assert links[card]["state"] == "missing"
        assert "`dvc repro` adds it" in links[card]["detail"]
    assert gaps(trace, "champion") == ["model card", "data card"]
    run("dvc repro promote")
    assert trace("champion")["whole"]


@pytest.mark.parametrize(
    ("table", "key", "value", "link"),
    [
        ("params", "lr", "0.02", "parameters"),
        ("params", "network", "simple_mlp", "parameters"),
        ("metrics", "test_accuracy", "0.99", "metrics"),
        ("latest_metrics", "test_accuracy", "0.99", "metrics"),
        ("tags", "git.commit", "0" * 40, "commit"),
        ("tags", "git.dirty", "true", "commit"),
        ("tags", "provenance", "{}", "parameters, commit"),
        ("tags", "data.md5", "126198369362df7c54984cf13f63be97.dir", "data"),
        ("model_version_tags", "git.commit", "0" * 40, "commit"),
    ],
)
def test_a_changed_value_in_mlflow_breaks_its_link(
    trace: Trace, project: Path, table: str, key: str, value: str, link: str
) -> None:
    with changed_in_store(project, table, key, value):
        assert ", ".join(gaps(trace, "champion")) == link


@pytest.mark.parametrize(
    "edit",
    [
        lambda project: set_param(project, "train.seed", 1),
        lambda project: (project / "models/new.py").touch(),
    ],
    ids=["parameters", "code"],
)
def test_a_commit_with_other_parameters_or_other_code_breaks_the_commit(
    run: Run, trace: Trace, project: Path, edit: Callable[[Path], None]
) -> None:
    edit(project)
    run("git add . && git commit -q -m another")
    other = run("git rev-parse HEAD").stdout.strip()
    run("git reset -q --hard HEAD^")
    with changed_in_store(project, "tags", "git.commit", other):
        version = "UPDATE model_version_tags SET value = ? WHERE key = 'git.commit'"
        with changed_store(project, version, other):
            assert gaps(trace, "champion") == ["commit"]


def test_a_run_that_was_deleted_ends_the_chain(trace: Trace, project: Path) -> None:
    (run_id,) = (one.info.run_id for one in runs(project) if one.info.run_name == "batchnorm_mlp")
    client_of(project).delete_run(run_id)
    assert gaps(trace, "champion") == ["run"]
    client_of(project).restore_run(run_id)


def test_an_unknown_start_is_an_error_that_lists_what_is_allowed(run: Run) -> None:
    output = run("python -m pipeline.trace nonsense", status=1).stdout
    assert "WHAT must be a model file" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_mlflow_loads_and_serves_the_champion(project: Path) -> None:
    images = np.zeros((2, 28, 28), int).tolist()
    serve = f"mlflow models serve -m {CHAMPION} --env-manager local --port {{port}}"
    with running(serve, project, "/ping") as client:
        response = client.post("/invocations", json={"inputs": {"images": images}}).json()
    assert np.shape(response["predictions"]["logits"]) == (2, 10)


def test_our_server_serves_the_champion(project: Path) -> None:
    with running(f"python -m serve --model {CHAMPION} --port {{port}}", project, "/v2") as client:
        versions = client.get("/v2/models/batchnorm_mlp").json()["versions"]
    assert versions == [champion(project)[:12]]
    version = client_of(project).get_model_version_by_alias("mnist-batchnorm", "champion")
    assert "Version 1 was judged champion" in str(version.description)


@pytest.mark.slow
def test_an_empty_store_gets_the_runs_from_the_files(run: Run, trace: Trace, project: Path) -> None:
    tags = {one.info.run_name: one.data.tags for one in runs(project)}
    store = f"sqlite:///{project}/other.db"
    output = run(f"MLFLOW_TRACKING_URI={store} dvc repro promote").stdout
    assert output.count("Running stage") == 1
    trace("champion", store=store)  # no link is broken
    again = MlflowClient(store).search_runs(["1"])
    assert len(again) == len(NETWORKS)
    for one in again:
        assert one.data.tags["execution.id"] == tags[one.info.run_name]["execution.id"]
        assert one.data.tags["git.commit"] == tags[one.info.run_name]["git.commit"]


@pytest.mark.slow
def test_going_back_to_an_earlier_commit_trains_nothing_and_keeps_the_better_champion(
    run: Run, trace: Trace, project: Path
) -> None:
    def promoted() -> tuple[int, str, bool]:
        promotion = json.loads((project / "artifacts/promotion.json").read_text())
        is_champion = champion(project) == sha256(project / MODEL)
        return promotion["version"], promotion["alias"], is_champion

    assert promoted() == (1, "champion", True)
    assert "and not promoted" in run("dvc exp run -S train.lr=0.05").stdout
    run("git commit -q -a -m faster && dvc repro promote")
    assert promoted() == (2, "champion", True)  # an epoch at 0.05 learns more
    run("git checkout -q HEAD~")
    output = run("dvc repro promote").stdout
    assert "Running stage 'train'" not in output
    assert promoted() == (1, "challenger", False)
    verdict = "it may be more than promote.margin = 0.005 less accurate than the champion version 2"
    assert verdict in output

    names = [one.info.run_name.split(" (")[0] for one in runs(project)]  # "simple_mlp (dozy-noun)"
    assert sorted(names) == sorted([*NETWORKS, *NETWORKS])
    for one in runs(project):
        trace(one.info.run_id)  # no link is broken
    assert trace(MODEL)["whole"]
    trace("champion")


@pytest.mark.slow
def test_rolling_back_gives_the_alias_back_and_blocks_the_version(run: Run, project: Path) -> None:
    output = run("python -m pipeline.promote --roll-back").stdout
    assert "version 1 is the champion again" in output
    assert champion(project) == sha256(project / MODEL)
    run("git checkout -q main && dvc repro promote")
    assert champion(project) != sha256(project / MODEL)
    promotion = json.loads((project / "artifacts/promotion.json").read_text())
    assert (promotion["version"], promotion["alias"]) == (2, "challenger")
    assert promotion["reason"].startswith("it was rolled back")
    assert "rolled back already" in run("python -m pipeline.promote --roll-back").stdout
