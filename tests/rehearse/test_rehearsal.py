import pytest
from torch import nn

from pipeline.core.params import Recipe
from pipeline.rehearse.rehearsal import rehearse_network
from tests.zoo import ACCEPTED, REFUSED, bring

RECIPE = Recipe(epochs=1, batch_size=64, lr=0.1, seed=0, device="auto")


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_pytorch_accepts_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(ACCEPTED[name], monkeypatch)
    parameters = sum(parameter.numel() for parameter in ACCEPTED[name]().parameters())
    assert rehearse_network("mine", RECIPE) == parameters


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_work_is_refused_with_the_reason(
    kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(kind, monkeypatch)
    what, why = REFUSED[kind]
    with pytest.raises(ValueError, match=f"(?s)^mine cannot {what}: .*{why}.*make-it-yours"):
        rehearse_network("mine", RECIPE)
