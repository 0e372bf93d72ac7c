"""What becomes of versions in a store of their own, registered from models that are not trained."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from models import BatchNormMLP
from pipeline import promotion, tracking
from pipeline.artifacts import sha256
from pipeline.data import Mnist
from pipeline.export import to_onnx
from pipeline.params import PromoteParams, load_params

Promote = Callable[[float], dict[str, Any]]

# MLflow's own, as it is imported
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")


def set_least_accuracy(patch: pytest.MonkeyPatch, least: float) -> None:
    params = PromoteParams(min_test_accuracy=least, significance_level=0.05)
    whole = load_params().model_copy(update={"promote": params})
    patch.setattr(promotion, "load_params", lambda: whole)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    store = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setattr(tracking, "PROJECT", tmp_path)
    yield MlflowClient(store)
    tracking.mlflow.set_tracking_uri(None)


@pytest.fixture
def promote(
    client: MlflowClient,
    network: BatchNormMLP,
    small_mnist: Mnist,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Promote:
    """Promote the same network, exported to a file that says it has some accuracy."""
    model, certificate = tmp_path / "model.onnx", tmp_path / "certificate.json"
    run_id = client.create_run(
        tracking.open_experiment(client, "mnist-batchnorm"), tags={"weights.sha256": "0" * 64}
    ).info.run_id
    monkeypatch.setattr(promotion, "MODEL", model)
    monkeypatch.setattr(promotion, "CERTIFICATE", certificate)
    monkeypatch.setattr(promotion, "load_mnist", lambda: small_mnist)
    set_least_accuracy(monkeypatch, 0)
    monkeypatch.setattr(tracking, "record_all", lambda _client: {"batchnorm_mlp": run_id})

    def promote(accuracy: float) -> dict[str, Any]:
        model.write_bytes(to_onnx(network, accuracy).SerializeToString(deterministic=True))
        certificate.write_text(json.dumps({"passed": True, "model_sha256": sha256(model)}))
        judged = {"model.sha256": sha256(model), "certificate.sha256": sha256(certificate)}
        return promotion.promote(judged, {}, lambda _report: None)[0]

    return promote


def champion(client: MlflowClient) -> ModelVersion:
    return client.get_model_version_by_alias("mnist-batchnorm", "champion")


def number(client: MlflowClient) -> int:
    return int(champion(client).version)


def registered_file(client: MlflowClient, version: ModelVersion, name: str) -> Path:
    folder = client.get_logged_model(tracking.logged_model(version)).artifact_location
    return Path(folder.removeprefix("file://")) / name


def test_every_version_keeps_its_own_certificate(client: MlflowClient, promote: Promote) -> None:
    for accuracy in (0.1, 0.2):
        promote(accuracy)
    for version in client.search_model_versions("name = 'mnist-batchnorm'"):
        path = registered_file(client, version, "certificate.json")
        assert sha256(path) == version.tags["certificate.sha256"]
        assert json.loads(path.read_text())["model_sha256"] == version.tags["model.sha256"]


def test_rolling_back_ends_where_no_champion_is_left(
    client: MlflowClient, promote: Promote
) -> None:
    for accuracy in (0.1, 0.2, 0.1):  # there and back: versions 1 and 2 replaced each other
        promote(accuracy)
    assert number(client) == 1
    assert "version 2 is the champion again" in promotion.roll_back()
    with pytest.raises(ValueError, match="no champion before this one"):
        promotion.roll_back()
    assert number(client) == 2
    assert "rolled.back" not in champion(client).tags


def test_a_version_that_is_gone_is_no_way_back_and_bars_nothing(
    client: MlflowClient, promote: Promote
) -> None:
    for accuracy in (0.1, 0.2):
        promote(accuracy)
    client.delete_model_version("mnist-batchnorm", "1")
    with pytest.raises(ValueError, match="no champion before this one"):
        promotion.roll_back()
    assert "rolled.back" not in champion(client).tags


def test_a_model_that_was_rolled_back_stays_barred_under_another_number(
    client: MlflowClient, promote: Promote
) -> None:
    for accuracy in (0.1, 0.2):
        promote(accuracy)
    registered = registered_file(client, champion(client), "model.onnx")
    promotion.roll_back()
    registered.unlink()  # so that it is registered anew
    found = promote(0.2)
    assert (found["version"], found["alias"]) == (3, "challenger")
    assert found["reason"].startswith("it was rolled back")
    assert number(client) == 1


def test_a_model_whose_registered_file_is_lost_is_registered_anew(
    client: MlflowClient, promote: Promote
) -> None:
    promote(0.1)
    registered_file(client, champion(client), "model.onnx").unlink()
    assert promote(0.1)["version"] == 2
    assert number(client) == 2


def test_a_champion_with_other_bytes_than_were_judged_is_not_compared_with(
    client: MlflowClient, promote: Promote
) -> None:
    promote(0.1)
    path = registered_file(client, champion(client), "model.onnx")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="version 1, the champion, has lost its file or holds oth"):
        promote(0.2)
    assert number(client) == 1


def test_a_challenger_that_becomes_champion_is_no_challenger_any_more(
    client: MlflowClient, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_least_accuracy(monkeypatch, 1)
    assert promote(0.1)["alias"] == "challenger"
    set_least_accuracy(monkeypatch, 0)
    assert promote(0.1)["alias"] == "champion"
    assert list(client.get_registered_model("mnist-batchnorm").aliases) == ["champion"]
