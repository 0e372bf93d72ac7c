from pathlib import Path

from pipeline.history import Epoch, read_history, write_history


def test_a_history_comes_back_bit_for_bit(tmp_path: Path) -> None:
    history = [Epoch(1, 1 / 3, 0.1, 0.97, 0.5), Epoch(2, 2 / 3, 1e-9, 1.0, 0.25)]
    write_history(tmp_path / "history.csv", history)
    assert read_history(tmp_path / "history.csv") == history


def test_the_columns_are_those_that_users_rely_on(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", [])
    expected = "epoch,train_loss,test_loss,test_accuracy,seconds\n"
    assert (tmp_path / "history.csv").read_text() == expected
