import pytest

from models import BatchNormMLP
from pipeline.data.load import Dataset
from tests.certify.broken import MUTANTS, NOT_EXPORTED, export
from tests.certify.mutants import CHECKS, what_catches

Caught = dict[str, bool | None]
CORRECT = "nothing is wrong"


@pytest.fixture(scope="module")
def table(trained_network: BatchNormMLP, small_dataset: Dataset) -> dict[str, Caught]:
    mutants = MUTANTS | {CORRECT: lambda network, _images: export(network)}
    not_exported = NOT_EXPORTED | {CORRECT}  # so that its tensors are compared too
    images = small_dataset.test_images
    return what_catches(mutants, not_exported, trained_network, images, limit=1e-4)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_export_is_caught(name: str, table: dict[str, Caught]) -> None:
    caught = table[name]
    assert list(caught) == CHECKS
    assert any(caught.values())
    if name != "one bit flipped":  # which is less than rounding
        assert caught["file"]
        assert caught["optimized file"]
        assert caught["self-test"] or (caught["JSON"] and caught["binary"])
    assert caught["weights"] == (True if name in NOT_EXPORTED else None)


def test_a_correct_export_is_not_caught(table: dict[str, Caught]) -> None:
    assert set(table[CORRECT].values()) == {False}
