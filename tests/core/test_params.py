import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_model_name
from ruamel.yaml import YAML

from models import NETWORKS
from pipeline.core.files import ROOT, model_path
from pipeline.core.params import Params, TrainParams, load_params, own_params
from serve.protocol.messages import MAX_ROWS

Load = Callable[[object], Params]


def content(**changes: object) -> dict[str, dict[str, Any]]:
    """Return the project's parameters with changes, such as train__lr=0.1."""
    sections = load_params().model_dump()
    for name, value in changes.items():
        section, key = name.split("__")
        sections[section][key] = value
    return sections


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a file with these parameters."""

    def load(content: object) -> Params:
        YAML().dump(content, tmp_path / "params.yaml")
        return load_params(tmp_path / "params.yaml")

    return load


def test_the_file_in_the_project_is_the_tutorials_recipe() -> None:
    train = load_params().train
    assert (train.epochs, train.batch_size, train.lr) == (10, 64, 0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__lr": -1.0}, "train.lr must be greater than 0, got -1.0"),
        ({"train__lr": float("nan")}, "train.lr must be"),
        ({"train__lr": float("inf")}, "train.lr must be a finite number, got inf"),
        ({"train__lr": "fast"}, "train.lr must be a valid number, got 'fast'"),
        ({"train__epochs": 0}, "train.epochs must be greater than or equal to 1, got 0"),
        ({"train__epochs": 2.5}, "train.epochs must be a valid integer, got 2.5"),
        ({"train__epochs": True}, "train.epochs must be a valid integer, got True"),
        ({"train__batch_size": 1}, "train.batch_size must be greater than or equal to 2, got 1"),
        ({"train__device": "tpu"}, "train.device must be 'auto', 'cpu' or 'cuda', got 'tpu'"),
        ({"train__momentum": 0.9}, "train.momentum is not a known parameter"),
        ({"train__threads": 0}, "train.threads must be greater than or equal to 1, got 0"),
        ({"train__networks": {"cnn": {}}}, "must be a network of models/"),
        (
            {"train__networks": {"simple_mlp": {"lr": 0}}},
            "networks.simple_mlp.lr must be gre",
        ),
        ({"train__networks": {"simple_mlp": 1}}, "train.networks.simple_mlp must be"),
        ({"train__networks": {"simple_mlp": {"a": 1}}}, "train.networks.simple_mlp.a is not a k"),
        (
            {"export__network": "cnn"},
            f"export.network must be a network of models/: {', '.join(NETWORKS)}, got 'cnn'",
        ),
        ({"certify__max_abs_difference": 0.0}, "certify.max_abs_difference must be greater than 0"),
        ({"certify__request_size": 0}, "certify.request_size must be greater than or equal to 1"),
        ({"certify__request_size": MAX_ROWS + 1}, f"must be less than or equal to {MAX_ROWS}, got"),
        ({"study__seeds": 1}, "study.seeds must be greater than or equal to 2, got 1"),
        ({"study__images": 65}, "study.images must be a multiple of 32, got 65"),
        ({"promote__min_test_accuracy": 97.0}, "promote.min_test_accuracy must be less than or"),
        ({"promote__margin": 0.0}, "promote.margin must be greater than 0, got 0.0"),
        ({"adapt__rows": 63}, "adapt.rows must be greater than or equal to 64, got 63"),
        ({"adapt__judge": "cnn"}, "adapt.judge must be a network of models/: "),
        ({"adapt__min_agreement": 75.0}, "adapt.min_agreement must be less than or equal to 1"),
        ({"adapt__unattended": "no"}, "adapt.unattended must be a valid boolean, got 'no'"),
        ({"adapt__cooldown_s": -1}, "adapt.cooldown_s must be greater than or equal to 0, got -1"),
        ({"tracking__experiment": ""}, "tracking.experiment "),
        ({"tracking__registered_model": ""}, "tracking.registered_model "),
        ({"tracking__registered_model": "it's"}, "tracking.registered_model must match pattern"),
    ],
)
def test_an_invalid_parameter_is_named_with_its_value(
    load: Load, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        load(content(**changes))


def test_a_long_value_is_shortened(load: Load) -> None:
    with pytest.raises(ValueError, match=r"'cpu' or 'cuda', got 'x{12}\.\.\.x{13}'$"):
        load(content(train__device=9999 * "x"))


def test_a_missing_parameter_or_section_is_named(load: Load) -> None:
    broken = content()
    del broken["train"]["seed"], broken["export"]
    with pytest.raises(ValueError, match=r"train\.seed is missing.*\nexport is missing"):
        load(broken)


def test_params_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_params().train.epochs = 1


def test_the_deployed_model_is_the_chosen_networks(load: Load) -> None:
    params = load(content(export__network="simple_mlp")).export
    assert params.model == model_path("simple_mlp")


def test_all_problems_are_reported_at_once(load: Load) -> None:
    with pytest.raises(ValueError, match=r"train\.epochs must.*\ntrain\.lr must"):
        load(content(train__lr=0.0, train__epochs=0))


@pytest.mark.parametrize("text", ["train: [", "train: {lr: 1, lr: 2}", "", "just words", "- 1"])
def test_a_file_without_the_parameters_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"params\.yaml"):
        load_params(path)


def test_aliases_that_stand_for_gigabytes_are_an_error_at_once(tmp_path: Path) -> None:
    levels = [f"- &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9)]
    bomb = "\n".join(["- &l0 x", *levels])
    (tmp_path / "params.yaml").write_text(f"train:\n{textwrap.indent(bomb, '  ')}")
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"^train must be a valid dictionary.{0,150}\n"):
        load_params(tmp_path / "params.yaml")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("name", ["a/b:c", "a/b", "a:b", "..", " "])
def test_a_model_name_that_mlflow_refuses_is_refused_before_the_training(
    load: Load, name: str
) -> None:
    with pytest.raises(MlflowException):
        _validate_model_name(name)
    with pytest.raises(ValueError, match=r"tracking\.registered_model must match pattern"):
        load(content(tracking__registered_model=name))


def test_a_missing_file_is_an_error_that_says_how_to_restore_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="git checkout"):
        load_params(tmp_path / "params.yaml")


def test_a_process_reads_the_file_once_whatever_becomes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    params = load_params(path)
    path.write_text("garbage")
    assert load_params(path) is params


def test_a_network_has_its_own_recipe_where_it_differs(load: Load) -> None:
    params = load(content(train__networks={"batchnorm_mlp": {"lr": 0.5}})).train
    section = params.model_dump(exclude_unset=True)
    assert own_params("batchnorm_mlp", section)["lr"] == 0.5
    assert own_params("simple_mlp", section)["lr"] == params.lr
    assert own_params("batchnorm_mlp", section)["epochs"] == params.epochs
    assert TrainParams.model_validate(section).model_dump(exclude_unset=True) == section
