from pathlib import Path

import pytest
import torch
from torch import nn

from models import NETWORKS
from pipeline.core import files
from pipeline.core.params import Recipe
from pipeline.rehearse.rehearsal import rehearse, rehearse_network
from tests.support import write_below
from tests.zoo import ACCEPTED, REFUSED, bring

RECIPE = Recipe(epochs=1, batch_size=64, lr=0.1, seed=0, device="auto")


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_pytorch_accepts_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(ACCEPTED[name], monkeypatch)
    network = ACCEPTED[name]().eval()
    network(torch.zeros(2, 28, 28))  # which makes the parameters of lazy layers
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert rehearse_network("mine", RECIPE) == parameters


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_work_is_refused_with_the_reason(
    kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(kind, monkeypatch)
    what, why = REFUSED[kind]
    with pytest.raises(ValueError, match=f"(?s)^cannot {what}: .*{why}"):
        rehearse_network("mine", RECIPE)


def test_all_that_are_refused_are_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_below(tmp_path, monkeypatch)
    for key in ("simple_mlp", "batchnorm_mlp"):
        monkeypatch.setitem(NETWORKS, key, NETWORKS[key]._replace(path="tests.zoo:WrongShape"))
    with pytest.raises(ValueError, match=r"^simple_mlp ca.*\nbatchnorm_mlp ca.*\nSee docs"):
        rehearse()
    assert not files.PARAMETERS.exists()
