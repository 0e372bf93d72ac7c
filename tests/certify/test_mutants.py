import pytest

from models import BatchNormMLP
from pipeline.data.load import Dataset
from tests.certify import mutants
from tests.certify.broken import MUTANTS, NOT_EXPORTED, export
from tests.certify.mutants import CHECKS, what_catches


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_export_is_caught(name: str, network: BatchNormMLP, small_dataset: Dataset) -> None:
    caught = what_catches(name, network, small_dataset.test_images, limit=1e-4)
    assert set(caught) == set(CHECKS)
    assert any(caught.values())
    if name != "one bit flipped":  # which is less than rounding
        assert caught["file"]
        assert caught["optimized file"]
        assert caught["self-test"] or (caught["JSON"] and caught["binary"])
    assert caught["same bytes"] == (True if name in NOT_EXPORTED else None)


def test_a_correct_export_is_not_caught(
    network: BatchNormMLP, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MUTANTS, "nothing", lambda network, _images: export(network))
    monkeypatch.setattr(mutants, "NOT_EXPORTED", {"nothing"})
    caught = what_catches("nothing", network, small_dataset.test_images, limit=1e-4)
    assert not any(caught.values())
