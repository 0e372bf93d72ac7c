from pathlib import Path

import pytest

from pipeline.core.history import Epoch, metric_points, read_history, write_history


def test_a_history_is_restored_bit_for_bit(tmp_path: Path) -> None:
    history = [Epoch(1, 1 / 3, 0.1, 0.97), Epoch(2, 2 / 3, 1e-9, 1.0)]
    write_history(tmp_path / "history.csv", history)
    assert read_history(tmp_path / "history.csv") == history


def test_the_columns_are_those_that_users_rely_on(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", [])
    expected = "epoch,train_loss,test_loss,test_accuracy\n"
    assert (tmp_path / "history.csv").read_text() == expected


def test_each_metric_has_the_time_at_which_its_epoch_ended() -> None:
    history = [Epoch(1, 0.4, 0.3, 0.9), Epoch(2, 0.2, 0.1, 1.0)]
    points = [point for point in metric_points(history, [1500, 1750]) if point[0] == "test_loss"]
    assert points == [("test_loss", 0.3, 1500, 1), ("test_loss", 0.1, 1750, 2)]


@pytest.mark.parametrize("content", ["epoch,loss\n1,2\n", "epoch\none\n", "a,b\n1\n"])
def test_an_unreadable_history_is_an_error_that_says_how_to_make_it_again(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "history.csv").write_text(content)
    with pytest.raises(ValueError, match=r"history\.csv is unreadable: run `dvc repro --force tr"):
        read_history(tmp_path / "history.csv")
