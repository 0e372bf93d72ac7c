"""The model card and the data card, written from records that no training made."""

import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Metric, Param, Run, RunData, RunInfo
from ruamel.yaml import YAML

from pipeline.core.files import ROOT
from pipeline.data.dataset import ABOUT, CLASS_NAMES, CROISSANT
from pipeline.promote.cards import cards
from tests.promote.records import CERTIFICATE, METRICS, PARAMS, TAGS
from tests.support import install

RECORDS = {"certificate": CERTIFICATE, "tags": TAGS, "params": PARAMS, "metrics": METRICS}

READ = """
import logging, sys
logging.disable()
import huggingface_hub
(result,) = huggingface_hub.ModelCard.load(sys.argv[1]).data.eval_results
print(result.task_type, result.dataset_name, result.metric_type, result.metric_value)
"""


def write_both(records: dict[str, Any]) -> dict[str, bytes]:
    """Return the cards of a run and a certificate with these values."""
    metrics = [Metric(name, value, 0, 2) for name, value in records["metrics"].items()]
    params = [Param(name, value) for name, value in records["params"].items()]
    info = RunInfo("3" * 32, "1", "tests", "FINISHED", 0, 0, "active")
    certificate = json.dumps(records["certificate"]).encode()
    return cards(certificate, Run(info, RunData(metrics, params)), records["tags"])


def write(records: dict[str, Any]) -> str:
    """Return the model card alone."""
    return write_both(records)["model_card.md"].decode()


def front_matter(card: str) -> dict[str, Any]:
    return YAML(typ="safe").load(card.split("---\n")[1])


def test_the_front_matter_has_the_runs_network_and_test_accuracy() -> None:
    found = front_matter(write(RECORDS))
    assert (found["license"], found["library_name"], found["datasets"]) == (
        "mit",
        "onnx",
        ["mnist"],
    )
    (model,) = found["model-index"]
    (result,) = model["results"]
    assert model["name"] == "batchnorm_mlp"
    assert result["dataset"] == {"name": "MNIST", "type": "mnist", "split": "test"}
    assert result["metrics"] == [{"type": "accuracy", "value": 0.9}]


def test_the_text_has_the_numbers_of_the_run_and_of_the_certificate() -> None:
    text = " ".join(write(RECORDS).split())
    assert "accuracy is 90.00% and the mean cross entropy is 0.1250" in text
    assert "on 320 test images. It passed." in text
    assert "| `server` | 90.00% | 3 | 2.5e-06 |" in text
    assert "For 318 of these images" in text
    for value in ("1" * 64, "0" * 64, TAGS["data.md5"], "2" * 40, "3" * 32):
        assert f"`{value}`" in text


@pytest.mark.parametrize(
    ("record", "path", "value"),
    [
        ("certificate", "passed", False),
        ("certificate", "images", 321),
        ("certificate", "accuracy server", 0.8),
        ("certificate", "max_abs_difference file", 1.6e-6),
        ("certificate", "max_abs_difference server", None),
        ("certificate", "flipped server", 4),
        ("certificate", "margin proven_images", 317),
        ("certificate", "margin", None),
        ("certificate", "model.sha256", "4" * 64),
        ("certificate", "weights.sha256", "4" * 64),
        ("tags", "data.md5", "5" * 32),
        ("tags", "git.commit", "6" * 40),
        ("tags", "git.dirty", "true"),
        ("params", "network", "simple_mlp"),
        ("params", "seed", "8"),
        ("metrics", "test_accuracy", 0.8),
        ("metrics", "test_loss", 0.25),
    ],
)
def test_a_changed_record_changes_a_line_of_the_model_card(
    record: str, path: str, value: object
) -> None:
    changed = copy.deepcopy(RECORDS)
    *groups, name = path.split()
    target: Any = changed[record]
    for group in groups:
        target = target[group]
    target[name] = value
    before, after = (set(write(records).splitlines()) for records in (RECORDS, changed))
    digest = {line for line in before ^ after if line.startswith("| SHA-256 of the certificate")}
    assert (before ^ after) - digest


def test_the_example_of_the_model_card_runs_the_model(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", write(RECORDS), re.DOTALL)
    names: dict[str, Any] = {"images": np.zeros((2, 28, 28), np.uint8)}
    monkeypatch.chdir(model.parent)
    exec(example, names)  # noqa: S102
    assert names["logits"].shape == names["probabilities"].shape == (2, 10)


def test_the_text_has_the_description_of_the_data_set() -> None:
    text = " ".join(write(RECORDS).split())
    for value in (ABOUT["description"], ABOUT["license"], ABOUT["citeAs"], ", ".join(CLASS_NAMES)):
        assert value in text


def test_another_data_set_changes_the_card_without_a_trace_of_mnist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    about = {"name": "Fashion-MNIST", "description": "Clothes.", "citeAs": "Xiao et al., 2017"}
    for name, value in about.items():
        monkeypatch.setitem(ABOUT, name, value)
    monkeypatch.setattr("pipeline.promote.cards.CLASS_NAMES", ["Trouser", "Bag"])
    monkeypatch.setattr("pipeline.promote.cards.IMAGE_SHAPE", (3, 32, 32))
    card = write(RECORDS)
    assert front_matter(card)["datasets"] == ["fashion-mnist"]
    assert "shape (B, 3, 32, 32), from 0 (black) to 255 (white, for each of the channels)" in card
    assert "32 × 32 pixels" in card
    assert "Clothes. The classes are Trouser, Bag." in card
    assert not re.search(r"digit|\bink\b|(?<!Fashion-)MNIST", card)


def test_the_data_card_is_the_description_of_the_data_set() -> None:
    described = (ROOT / "pipeline/data/croissant.json").read_bytes()
    assert write_both(RECORDS)["croissant.json"] == described


@pytest.mark.slow
def test_the_cards_are_valid_for_mlcroissant_and_hugging_face(tmp_path: Path) -> None:
    tools = install(tmp_path / "environment", "mlcroissant", "huggingface_hub", "pyyaml")
    (tmp_path / "model_card.md").write_text(write(RECORDS))
    validate = [str(tools / "mlcroissant"), "validate", "--jsonld", str(CROISSANT)]
    done = subprocess.run(validate, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    read = [str(tools / "python"), "-c", READ, "model_card.md"]
    output = subprocess.check_output(read, cwd=tmp_path, text=True)
    assert output == "image-classification MNIST accuracy 0.9\n"


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (
            "0",
            "on 60,000 training images. None were held out: if its hyperparameters",
        ),
        ("5000", "on 55,000 training images. Its hyperparameters may have been chosen by 5,000"),
    ],
)
def test_the_card_says_which_images_chose_what(images: str, sentence: str) -> None:
    params = PARAMS | {"validation_images": images, "optimizer": "AdamW"}
    text = " ".join(write(RECORDS | {"params": params}).split())
    assert sentence in text
    assert "The 10,000 test images decide whether a model becomes the champion." in text
    assert "from scratch by AdamW, with" in text
