import math
from pathlib import Path

import pytest

from pipeline.core import files
from pipeline.core.history import Epoch, read_history, write_history
from tests.support import write_below

HISTORY = {
    "simple_mlp": [Epoch(1, 1 / 3, 0.1 + 0.2, 0.9), Epoch(2, math.pi, 1e-17, 1.0)],
    "batchnorm_mlp": [Epoch(1, 0.5, 0.25, 0.95)],
}


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_below(tmp_path, monkeypatch)


def test_the_table_has_one_row_per_network_and_epoch() -> None:
    write_history(HISTORY)
    header, *rows = files.HISTORY.read_text().splitlines()
    assert header == "network,epoch,train_loss,test_loss,test_accuracy"
    assert [row.split(",")[:2] for row in rows] == [
        ["simple_mlp", "1"],
        ["simple_mlp", "2"],
        ["batchnorm_mlp", "1"],
    ]


def test_a_history_is_restored_exactly() -> None:
    write_history(HISTORY)
    assert read_history() == HISTORY
    assert files.VALIDATION.read_text() == "network,epoch,validation_loss,validation_accuracy\n"


def test_validation_is_in_a_table_of_its_own() -> None:
    history = HISTORY | {"mine": [Epoch(1, 0.5, 0.4, 0.9, 1 / 3, 0.8)]}
    write_history(history)
    assert read_history() == history
    assert files.VALIDATION.read_text().splitlines()[1:] == ["mine,1,0.3333333333333333,0.8"]


@pytest.mark.parametrize("content", ["network,epoch\na,b\n", "network\na\n", "epoch\n1\n"])
def test_an_unreadable_table_is_an_error_that_names_it(content: str) -> None:
    write_history(HISTORY)
    files.write_atomically(files.HISTORY, content.encode())
    with pytest.raises(ValueError, match=r"history\.csv is unreadable: run `dvc repro --force tr"):
        read_history()


def test_a_missing_table_is_an_error_that_names_the_stage() -> None:
    with pytest.raises(FileNotFoundError, match="run `dvc repro train`"):
        read_history()
