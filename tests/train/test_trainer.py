import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import Epoch
from pipeline.core.params import Recipe
from pipeline.data.load import Dataset
from pipeline.train import trainer
from pipeline.train.loop import initial_network, train
from tests.zoo import ListCounter, bring


class Wrong(nn.Linear):
    """A network that fails once it is trained."""

    def __init__(self) -> None:
        super().__init__(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("no\nsuch luck")
        return super().forward(images.flatten(1))


@pytest.fixture(autouse=True)
def folder(small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small data set to train on, and an empty folder."""
    monkeypatch.setattr(trainer, "load_dataset", lambda: small_dataset)
    monkeypatch.setattr(files, "ARTIFACTS", tmp_path)
    monkeypatch.setattr(files, "LOCKS", tmp_path)


@pytest.mark.parametrize("key", NETWORKS)
def test_the_trainer_writes_what_train_returns(
    key: str,
    train_params: Recipe,
    small_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["trainer", key, train_params.model_dump_json()])
    trainer.main()
    network = initial_network(key, train_params.seed)
    expected = list(train(network, small_dataset, train_params))
    weights = load_file(files.partial_path(key, "safetensors"))
    torch.testing.assert_close(weights, dict(network.state_dict()), rtol=0, atol=0)
    *rows, answers = map(json.loads, filter(None, capsys.readouterr().out.splitlines()))
    assert [Epoch(*row["epoch"]) for row in rows] == expected
    labels, predictions = zip(*answers["answers"], strict=True)
    assert (np.array(labels) == small_dataset.test_labels).all()
    assert np.equal(labels, predictions).mean() == expected[-1].test_accuracy


def test_a_training_that_fails_writes_nothing_and_names_the_network(
    train_params: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = train_params.model_copy(update={"lr": 1e30}).model_dump_json()
    monkeypatch.setattr(sys, "argv", ["trainer", "simple_mlp", broken])
    with pytest.raises(SystemExit, match=r"error: simple_mlp: the loss is .* lower train\.lr"):
        trainer.main()
    assert not files.partial_path("simple_mlp", "safetensors").exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ListCounter, "with the saved weights, forward returns other logits"),
        (Wrong, "RuntimeError: no\nsuch luck"),
    ],
)
def test_what_only_the_training_shows_is_an_error_that_names_the_network(
    kind: type[nn.Module],
    message: str,
    train_params: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bring(kind, monkeypatch)
    monkeypatch.setattr(sys, "argv", ["trainer", "mine", train_params.model_dump_json()])
    with pytest.raises(SystemExit) as ended:
        trainer.main()
    assert str(ended.value).startswith(f"error: mine: {message}")
    assert not files.partial_path("mine", "safetensors").exists()


def test_a_trainer_does_without_pytorchs_compiler(train_params: Recipe, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from pipeline.core import files
from pipeline.train import trainer
files.ARTIFACTS = files.LOCKS = Path(sys.argv.pop())
trainer.main()
print(sorted({"torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules)))
"""
    params = train_params.model_copy(update={"epochs": 1}).model_dump_json()
    command = [sys.executable, "-c", script, "batchnorm_mlp", params, str(tmp_path)]
    done = subprocess.run(command, cwd=files.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_network_is_an_error_that_names_the_known_ones() -> None:
    command = [sys.executable, "-m", "pipeline.train.trainer", "transformer", "{}"]
    done = subprocess.run(command, cwd=files.ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert all(key in done.stderr for key in NETWORKS)
