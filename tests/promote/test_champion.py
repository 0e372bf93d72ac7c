"""Tests of adapted champions: judged by their trained version, replaced, rolled back."""

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline.core import files
from pipeline.promote import promotion
from pipeline.promote.champion import make_champion, replace
from pipeline.promote.roll_back import roll_back
from pipeline.tracking import registry
from tests.promote.versions import Promote, champion, number

# MLflow's own, as it is imported
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")


def adapt(client: MlflowClient) -> ModelVersion:
    """Register a version as if it were adapted from the champion."""
    path = files.model_path("batchnorm_mlp")
    run_id = str(champion(client).run_id)
    version = registry.register(client, run_id, path, "adapted")
    tags = {"model.sha256": f"adapted {version.version}", "adapted.from": str(number(client))}
    registry.describe(client, version, tags, "")
    return client.get_model_version("mnist-batchnorm", version.version)


def test_an_adapted_champion_stays_when_its_trained_version_is_judged_again(
    client: MlflowClient, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote("a")
    replace(client, champion(client), adapt(client))
    files.PROMOTION.unlink()
    monkeypatch.setattr(promotion, "registered_model", lambda _version: b"intact")
    assert promote("a")["alias"] == "champion"
    assert number(client) == 2


def test_a_new_training_is_compared_with_the_trained_version_of_an_adapted_champion(
    client: MlflowClient, promote: Promote
) -> None:
    promote("a")
    replace(client, champion(client), adapt(client))  # whose file would be an error if it was read
    assert "less accurate than the champion version 1" in promote("b")["reason"]
    assert number(client) == 3
    roll_back()
    assert number(client) == 2


def test_going_back_to_the_trained_version_keeps_what_it_replaced(
    client: MlflowClient, promote: Promote
) -> None:
    for note in ("older", "a"):
        promote(note)
    trained, adapted = champion(client), adapt(client)
    replace(client, trained, adapted)
    replace(client, adapted, trained)
    assert number(client) == 2
    roll_back()
    assert number(client) == 1


def test_a_challenger_that_is_made_champion_is_no_longer_the_challenger(
    client: MlflowClient, promote: Promote, capsys: pytest.CaptureFixture[str]
) -> None:
    promote("a")
    adapted = adapt(client)
    registry.move_alias(client, "challenger", str(adapted.version))
    for said in ("2 is the champion, in place of version 1", "2 is the champion already"):
        make_champion(2)
        assert f"version {said}" in capsys.readouterr().out
    assert registry.find_alias(client, "challenger") is None
    make_champion(1)
    assert number(client) == 1


def test_only_a_version_of_the_champions_training_is_made_champion_by_hand(
    client: MlflowClient, promote: Promote
) -> None:
    for note in ("a", "b"):
        promote(note)
    with pytest.raises(ValueError, match="version 1 does not come from version 2, as the champion"):
        make_champion(1)
    with pytest.raises(ValueError, match="no version 9"):
        make_champion(9)
    adapt(client)
    make_champion(3)
    roll_back()
    with pytest.raises(ValueError, match="the model of version 3 was rolled back"):
        make_champion(3)
    assert number(client) == 2
