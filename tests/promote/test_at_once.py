"""Clones that promote models of different accuracy into one store, some of them at the same time.
A clone is a folder, and a model is the number of test images that it gets wrong."""

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from models import NETWORKS
from pipeline.core import files
from pipeline.core.params import PromoteParams, load_params
from pipeline.promote import promotion
from pipeline.promote.gate import CHAMPION
from pipeline.tracking import registry
from pipeline.tracking.store import open_experiment
from tests.promote.records import CERTIFICATE, PARAMS, TAGS
from tests.promote.writes import at_write
from tests.support import empty_store, free_port, write_below
from tests.test_outages import mlflow_server

IMAGES = 1000
CLONES, ROUNDS = 4, 1
PROMOTE = PromoteParams(min_test_accuracy=0, margin=0.05)

# MLflow's own, as it is imported
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")


def correct_answers(model: bytes, _dataset: object) -> np.ndarray:
    """Return the answers of a model that notes how many it gets wrong."""
    return np.arange(IMAGES) >= int(onnx.load_from_string(model).doc_string)


def promote(folder: Path, exported: bytes, wrong: int) -> str:
    """Promote the model in the clone, and return the alias that its verdict says."""
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    model = onnx.load_from_string(exported)
    model.doc_string = str(wrong)
    content = model.SerializeToString(deterministic=True)
    tags = TAGS | {"model": str(wrong)}
    experiment_id = open_experiment(client, "mnist-batchnorm")
    found = client.search_runs([experiment_id], f"tags.model = '{wrong}'")
    run_id = (found[0] if found else client.create_run(experiment_id, tags=tags)).info.run_id
    if not found:
        for name, value in PARAMS.items():
            client.log_param(run_id, name, value)
        for name, metric in {"test_loss": 0.1, "test_accuracy": 1 - wrong / IMAGES}.items():
            client.log_metric(run_id, name, metric, step=2)
    params = load_params().model_copy(update={"promote": PROMOTE})
    with pytest.MonkeyPatch.context() as patch:
        write_below(folder, patch)
        patch.delenv("DVC_EXP_NAME", raising=False)
        patch.setattr(registry, "CLONE", str(folder))
        patch.setattr(promotion, "load_params", lambda: params)
        patch.setattr(promotion, "load_dataset", lambda: None)
        patch.setattr(promotion, "record_files", lambda _client: {"batchnorm_mlp": run_id})
        patch.setattr(promotion, "correct_answers", correct_answers)
        files.write_atomically(files.model_path("batchnorm_mlp"), content)
        files.write_json(files.CERTIFICATE, CERTIFICATE | {"model.sha256": files.sha256(content)})
        files.write_json(files.CERTIFICATE_METRICS, {"passed": True, "flipped": 0})
        files.write_json(files.ACCURACY, {"batchnorm_mlp": 1 - wrong / IMAGES})
        for key in NETWORKS:
            files.write_atomically(files.weights_path(key), key.encode())
        files.PROMOTION.unlink(missing_ok=True)  # so that the model is judged again
        promotion.promote()
        return str(files.read_json(files.PROMOTION, "promote")["alias"])


def promote_many(number: int, folder: Path, exported: bytes, start: Any) -> None:
    """Promote a model of each round, when all clones are about to."""
    for wrong in models(number):
        start.wait()
        promote(folder, exported, wrong)
        start.wait()  # until the test has looked
        start.wait()


def models(number: int) -> list[int]:
    """Return a clone's model of each round: all of a round are better than all before, and apart
    by more than the margin."""
    return [240 * (ROUNDS - 1 - turn) + 60 * ((number + turn) % CLONES) for turn in range(ROUNDS)]


def champion(client: MlflowClient) -> int:
    """Return how many test images the champion gets wrong."""
    version = registry.find_alias(client, CHAMPION)
    assert version
    return int(client.get_run(str(version.run_id)).data.tags["model"])


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    (tmp_path / "store.db").write_bytes(empty_store())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store.db")
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    yield MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


def test_a_model_must_not_be_inferior_to_the_best_champion_so_far(
    client: MlflowClient, exported: bytes, tmp_path: Path
) -> None:
    aliases = [promote(tmp_path, exported, wrong) for wrong in (10, 30, 50, 20)]
    assert aliases == ["champion", "champion", "challenger", "champion"]


def test_a_lost_or_rolled_back_champion_is_no_rival(
    client: MlflowClient, exported: bytes, tmp_path: Path
) -> None:
    for wrong in (30, 20, 10):
        promote(tmp_path, exported, wrong)
    client.set_model_version_tag("mnist-batchnorm", "3", "rolled.back", "true")
    second = client.get_model_version("mnist-batchnorm", "2")
    folder = client.get_logged_model(registry.logged_model_id(second)).artifact_location
    (Path(folder.removeprefix("file://")) / "model.onnx").unlink()
    assert promote(tmp_path, exported, 55) == "champion"


def test_a_champion_on_other_test_images_is_a_rival_only_while_it_has_the_alias(
    client: MlflowClient, exported: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(tmp_path, exported, 10)
    monkeypatch.setitem(TAGS, "data.md5", "0" * 32 + ".dir")
    aliases = [promote(tmp_path, exported, wrong) for wrong in (70, 30, 50)]
    assert aliases == ["challenger", "champion", "champion"]


@pytest.mark.slow
@pytest.mark.parametrize("mine", [0, 200], ids=["the better", "the inferior"])
def test_of_two_models_promoted_at_once_the_inferior_one_does_not_end_as_champion(
    client: MlflowClient,
    exported: bytes,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    mine: int,
) -> None:
    """Between any two writes of the one clone, the other promotes from beginning to end."""

    def promote_theirs() -> None:
        promote(tmp_path / "another", exported, 200 - mine)

    for wrong in (220, mine, 200 - mine):
        promote(tmp_path, exported, wrong)  # so that they are registered
    for write in itertools.count(1):
        client.set_registered_model_alias("mnist-batchnorm", "champion", "1")
        for number in ("2", "3"):
            with suppress(MlflowException):
                client.delete_model_version_tag("mnist-batchnorm", number, "replaced")
        with at_write(write, promote_theirs) as done:
            promote(tmp_path, exported, mine)
        if not done:
            break
        assert champion(client) == 0, f"at write {write}, {done[0]}"
    record_property("seen", f"at any of {write - 1} writes")


@pytest.mark.slow
def test_of_four_clones_that_promote_at_once_no_inferior_one_ends_as_champion(
    exported: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(CLONES + 1)
    clones = [
        context.Process(target=promote_many, args=(n, tmp_path / str(n), exported, start))
        for n in range(CLONES)
    ]
    seen = []
    with mlflow_server(tmp_path, port):
        client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
        for clone in clones:
            clone.start()
        try:
            for turn in range(ROUNDS):
                start.wait(timeout=600)
                start.wait(timeout=600)
                seen.append(champion(client))
                assert seen[-1] == min(models(n)[turn] for n in range(CLONES))
                start.wait(timeout=600)
        finally:
            start.abort()
            for clone in clones:
                clone.join()
    record_property("seen", f"wrong answers of the champions: {seen}")
