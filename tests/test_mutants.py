import pytest

from bench import mutants
from bench.broken import plain_export
from bench.mutants import BEHIND_EXPORT, CHECKS, MUTANTS, checks
from models import BatchNormMLP
from pipeline.data import Mnist


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_export_is_caught(name: str, network: BatchNormMLP, small_mnist: Mnist) -> None:
    caught = checks(name, network, small_mnist.test_images, limit=1e-4)
    assert set(caught) == set(CHECKS)
    assert any(caught.values())
    if name != "one bit flipped":  # which is less than rounding
        assert caught["file"]
        assert caught["optimised file"]
        assert caught["self-test"] or (caught["JSON"] and caught["binary"])
    assert caught["same bytes"] == (True if name in BEHIND_EXPORT else None)


def test_a_right_export_is_not(
    network: BatchNormMLP, small_mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(mutants.MUTANTS, "nothing wrong", plain_export)
    monkeypatch.setattr(mutants, "BEHIND_EXPORT", {"nothing wrong"})
    assert not any(checks("nothing wrong", network, small_mnist.test_images, 1e-4).values())
