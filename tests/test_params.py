from pathlib import Path
from typing import Any

import pytest

from pipeline.params import load_params, parse_params


def content(**changes: Any) -> dict[str, Any]:
    train = {"epochs": 10, "batch_size": 64, "lr": 0.01, "seed": 0, "device": "auto"}
    certify = {"max_abs_difference": 1e-4, "request_size": 500}
    promote = {"min_test_accuracy": 0.97, "significance_level": 0.05}
    study = {
        "seeds": 5, "images": 60_000, "epochs": 10, "rates_epochs": 1, "scale_epochs": 20,
        "overfitting_epochs": 100, "device": "auto",
    }  # fmt: skip
    sections = {"train": train, "certify": certify, "promote": promote, "study": study}
    for name, value in changes.items():
        section, key = name.split("__")
        sections[section][key] = value
    return sections


def test_the_file_in_the_project_is_the_sources_recipe() -> None:
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
        ({"certify__request_size": 0}, "certify.request_size must be greater than or equal to 1"),
        ({"study__seeds": 1}, "study.seeds must be greater than or equal to 2, got 1"),
        ({"study__images": 65}, "study.images must be a multiple of 32, got 65"),
        ({"promote__min_test_accuracy": 97.0}, "promote.min_test_accuracy must be less than or"),
        ({"promote__significance_level": 0.0}, "promote.significance_level must be greater than 0"),
    ],
)
def test_an_impossible_parameter_is_named_with_its_value(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        parse_params(content(**changes))


def test_a_missing_parameter_is_named() -> None:
    broken = content()
    del broken["train"]["seed"]
    with pytest.raises(ValueError, match=r"train\.seed is missing"):
        parse_params(broken)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)train\.lr.*train\.epochs|train\.epochs.*train\.lr"):
        parse_params(content(train__lr=0.0, train__epochs=0))


@pytest.mark.parametrize("text", ["train: [", "train: {lr: 1, lr: 2}", "", "just words"])
def test_a_file_that_is_not_ours_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"params\.yaml"):
        load_params(path)


def test_a_missing_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="git checkout"):
        load_params(tmp_path / "params.yaml")
