"""Promoting and rolling back models that are not trained, in a store of the test's own."""

import itertools
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from sqlalchemy import event
from sqlalchemy.engine import Engine

from models import NETWORKS
from pipeline.core import files
from pipeline.promote import promotion
from pipeline.promote.__main__ import main
from pipeline.promote.roll_back import blocked, roll_back
from pipeline.tracking import registry
from pipeline.tracking.registry import logged_model_id
from tests.promote.records import PARAMS
from tests.promote.versions import Promote, champion, number, registered_file, set_min_accuracy
from tests.promote.writes import at_write

RecordProperty = Callable[[str, object], None]

# MLflow's own, as it is imported
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")


class Killed(BaseException):
    """What no code of ours catches."""


def kill() -> None:
    raise Killed


def test_a_registration_that_is_cut_off_leaves_no_pending_model_after_the_next_promotion(
    client: MlflowClient, promote: Promote
) -> None:
    tags = {"recorded.in": "elsewhere"}  # another clone may be registering it
    others = client.create_logged_model("1", "batchnorm_mlp", tags=tags).model_id

    def pending() -> list[str]:
        found = client.search_logged_models(["1"])
        return [one.model_id for one in found if one.status == LoggedModelStatus.PENDING]

    def cut_off(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE logged_models"):
            raise KeyboardInterrupt

    event.listen(Engine, "before_cursor_execute", cut_off)
    try:
        with pytest.raises(KeyboardInterrupt):
            promote("a")
    finally:
        event.remove(Engine, "before_cursor_execute", cut_off)
    assert len(pending()) == 2
    promote("a")
    assert pending() == [others]


def test_an_alias_that_another_clone_gives_away_at_the_same_moment_is_given_again(
    client: MlflowClient, promote: Promote, tmp_path: Path
) -> None:
    promote("a")
    client.delete_registered_model_alias("mnist-batchnorm", "champion")
    inserted: list[tuple[object, ...]] = []

    def insert_first(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith("INSERT INTO registered_model_aliases") and not inserted:
            inserted.append(values)
            with closing(sqlite3.connect(tmp_path / "store.db")) as another, another:
                another.execute(statement, values)

    event.listen(Engine, "before_cursor_execute", insert_first)
    try:
        promote("b")
    finally:
        event.remove(Engine, "before_cursor_execute", insert_first)
    assert len(inserted) == 1
    assert number(client) == 2


def test_every_version_keeps_its_own_certificate(client: MlflowClient, promote: Promote) -> None:
    for note in ("a", "b"):
        promote(note)
    versions = client.search_model_versions("name = 'mnist-batchnorm'")
    assert len(versions) == 2
    for version in versions:
        path = registered_file(client, version, "certificate.json")
        assert files.sha256(path) == version.tags["certificate.sha256"]
        assert files.read_json(path, "certify")["model.sha256"] == version.tags["model.sha256"]


def test_every_version_has_cards_of_its_own_model(client: MlflowClient, promote: Promote) -> None:
    for note in ("a", "b"):
        promote(note)
    for version in client.search_model_versions("name = 'mnist-batchnorm'"):
        model_card = registered_file(client, version, "model_card.md")
        assert version.tags["model.sha256"] in model_card.read_text()
        for card in (model_card, registered_file(client, version, "croissant.json")):
            assert files.sha256(card) == version.tags[f"{card.stem}.sha256"]


@pytest.mark.parametrize("name", ["model_card.md", "croissant.json"])
def test_a_lost_or_changed_card_is_added_again_without_another_verdict(
    client: MlflowClient, promote: Promote, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    promote("a")
    monkeypatch.setattr(promotion, "promote_again", None)  # so that calling it fails
    path = registered_file(client, champion(client), name)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    promote("a")
    assert path.read_bytes() == whole
    path.unlink()
    promote("a")
    assert path.read_bytes() == whole


def test_the_same_model_is_registered_and_judged_once(
    client: MlflowClient, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = promote("a")
    monkeypatch.setattr(promotion, "promote_again", None)  # so that calling it fails
    assert promote("a") == first
    assert len(client.search_model_versions("name = 'mnist-batchnorm'")) == 1


@pytest.mark.parametrize("garbage", ["{", "[]", '{"judged": {}}', ""])
def test_an_unreadable_promotion_is_made_again(promote: Promote, garbage: str) -> None:
    first = promote("a")
    files.PROMOTION.write_text(garbage)
    assert promote("a")["version"] == first["version"]


def test_without_a_champion_the_model_is_judged_again(
    client: MlflowClient, promote: Promote
) -> None:
    promote("a")
    client.delete_registered_model_alias("mnist-batchnorm", "champion")
    assert promote("a")["alias"] == "champion"
    assert number(client) == 1


def test_a_damaged_champion_is_reported_also_if_the_model_was_judged(
    client: MlflowClient, promote: Promote
) -> None:
    promote("a")
    promote("b")
    client.set_registered_model_alias("mnist-batchnorm", "champion", "1")
    registered_file(client, champion(client), "model.onnx").unlink()
    with pytest.raises(ValueError, match="version 1, the champion, has lost its file"):
        promote("b")


def test_another_models_certificate_is_an_error(promote: Promote) -> None:
    promote("a")
    files.write_json(files.CERTIFICATE, {"passed": True, "model.sha256": "0" * 64})
    with pytest.raises(ValueError, match="is another model's: run `dvc repro certify`"):
        promotion.promote()


def test_rolling_back_undoes_one_promotion_however_often_it_is_repeated(
    client: MlflowClient, promote: Promote, capsys: pytest.CaptureFixture[str]
) -> None:
    for note in ("a", "b", "a"):  # there and back: versions 1 and 2 replaced each other
        promote(note)
    assert number(client) == 1
    capsys.readouterr()
    roll_back()
    assert capsys.readouterr().out == (
        "version 2 is the champion again; the model of version 1 stays blocked until its tag "
        "rolled.back is removed in MLflow\n"
    )
    roll_back()
    assert "version 2 is the champion, and a later one is rolled back al" in capsys.readouterr().out
    assert number(client) == 2
    assert "rolled.back" not in champion(client).tags


def test_rolling_back_ends_at_the_first_champion(client: MlflowClient, promote: Promote) -> None:
    for note in ("a", "b", "c"):
        promote(note)
    for expected in (2, 1):  # the second time by hand, as it is told
        client.set_model_version_tag("mnist-batchnorm", champion(client).version, "rolled.back", "")
        roll_back()
        assert number(client) == expected
    client.set_model_version_tag("mnist-batchnorm", "1", "rolled.back", "")
    with pytest.raises(ValueError, match="no champion before this one"):
        roll_back()
    assert number(client) == 1


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_roll_back_killed_at_any_write_and_repeated_blocks_the_bad_model_only(
    client: MlflowClient, promote: Promote, record_property: RecordProperty, lost: str
) -> None:
    for note in ("older", "good", "bad"):
        promote(note)
    for write in itertools.count(1):
        client.set_registered_model_alias("mnist-batchnorm", "champion", "3")
        client.delete_model_version_tag("mnist-batchnorm", "3", "rolled.back")
        with suppress(Killed), at_write(write, kill, after=lost == "answer") as killed:
            roll_back()
        assert number(client) == 3 or blocked(registry.all_versions(client))
        roll_back()
        assert number(client) == 2
        versions = registry.all_versions(client)
        assert blocked(versions) == {versions["3"].tags["model.sha256"]}
        if not killed:
            break
    assert write > 2
    record_property("seen", f"killed at each of {write - 1} writes, {lost} lost")


def test_an_interrupted_roll_back_is_told_to_roll_back_again(
    client: MlflowClient, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    promote("a")
    monkeypatch.setattr(registry, "find_alias", interrupt)
    monkeypatch.setattr(sys, "argv", ["promote", "--roll-back"])
    with pytest.raises(SystemExit, match=r"`python -m pipeline\.promote --roll-back` will run it"):
        main()


def test_without_a_champion_there_is_nothing_to_roll_back(client: MlflowClient) -> None:
    with pytest.raises(ValueError, match="there is no champion to roll back"):
        roll_back()


def test_a_version_that_is_gone_is_not_rolled_back_to_and_nothing_is_blocked(
    client: MlflowClient, promote: Promote
) -> None:
    for note in ("a", "b"):
        promote(note)
    client.delete_model_version("mnist-batchnorm", "1")
    with pytest.raises(ValueError, match="no champion before this one"):
        roll_back()
    assert "rolled.back" not in champion(client).tags


def test_a_model_that_was_rolled_back_stays_blocked_under_another_number(
    client: MlflowClient, promote: Promote
) -> None:
    for note in ("a", "b"):
        promote(note)
    registered = registered_file(client, champion(client), "model.onnx")
    roll_back()
    registered.unlink()  # so that it is registered again
    found = promote("b")
    assert (found["version"], found["alias"]) == (3, "challenger")
    assert found["reason"].startswith("it was rolled back")
    assert number(client) == 1


def test_a_model_whose_registered_file_is_lost_is_registered_again(
    client: MlflowClient, promote: Promote
) -> None:
    promote("a")
    registered_file(client, champion(client), "model.onnx").unlink()
    assert promote("a")["version"] == 2
    assert number(client) == 2


def test_a_champion_with_other_bytes_than_were_registered_is_an_error(
    client: MlflowClient, promote: Promote
) -> None:
    promote("a")
    path = registered_file(client, champion(client), "model.onnx")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="version 1, the champion, has lost its file or holds oth"):
        promote("b")
    assert number(client) == 1


def test_a_challenger_that_becomes_the_champion_is_no_challenger_any_more(
    client: MlflowClient, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_min_accuracy(monkeypatch, 1)
    assert promote("a")["alias"] == "challenger"
    set_min_accuracy(monkeypatch, 0)
    assert promote("a")["alias"] == "champion"
    assert list(client.get_registered_model("mnist-batchnorm").aliases) == ["champion"]


def test_a_dvc_experiment_is_recorded_and_never_registered(
    promote: Promote, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = promote("first")
    with monkeypatch.context() as patch:
        patch.setenv("DVC_EXP_NAME", "lanky-tope")
        assert promote("trial") == first
    (version,) = client.search_model_versions("name = 'mnist-batchnorm'")
    assert version.version == first["version"]
    assert promote("trial")["alias"] == "champion"  # as after `dvc exp apply`


def test_the_logged_model_shows_its_version_its_parameters_and_its_certificate(
    promote: Promote, client: MlflowClient
) -> None:
    promote("first")
    champion = client.get_model_version_by_alias("mnist-batchnorm", "champion")
    model = client.get_logged_model(logged_model_id(champion))
    assert json.loads(model.tags["mlflow.modelVersions"]) == [
        {"name": "mnist-batchnorm", "version": "1"}
    ]
    assert model.params == PARAMS
    evaluated = {metric.key: (metric.value, metric.dataset_name) for metric in model.metrics}
    assert evaluated == {
        "test_loss": (0.125, "MNIST test"),
        "test_accuracy": (0.9, "MNIST test"),
    }
    tags = {name: champion.tags[f"certificate.{name}"] for name in ("passed", "flipped")}
    assert tags == {"passed": "True", "flipped": "0"}


@pytest.mark.parametrize("key", NETWORKS)
def test_a_version_keeps_the_weights_of_all_networks_of_its_training(
    client: MlflowClient, promote: Promote, key: str
) -> None:
    promote("a")
    path = registered_file(client, champion(client), f"{key}.safetensors")
    assert path.read_bytes() == key.encode()
    assert champion(client).tags[f"{key}.sha256"] == files.sha256(path)
    path.unlink()
    promote("a")
    assert path.read_bytes() == key.encode()
