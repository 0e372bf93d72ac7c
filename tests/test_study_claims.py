import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.artifacts import KEYS
from pipeline.study.claims import CLAIMS, judge, reached
from pipeline.study.statistics import Interval, interval, intervals, verdict


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    random = np.random.default_rng(0)
    plain, normed = random.normal(1, 1, 10), random.normal(0, 1, 10)
    expected = stats.ttest_rel(plain, normed).confidence_interval(0.95)
    found = interval(pd.Series(plain - normed))
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.seeds == 10


def test_a_column_of_intervals_is_one_for_each_group() -> None:
    table = pd.DataFrame({"x": [1, 1, 2, 2], "y": [1.0, 3.0, 5.0, 5.0]})
    found = intervals(table, ["x"], "y").set_index("x")
    assert found["mean"].to_dict() == {1: 2.0, 2: 5.0}
    assert found.loc[1, "low"] == pytest.approx(2 - stats.t.ppf(0.975, 1))
    assert found.loc[2, "low"] == found.loc[2, "high"] == 5.0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 2.0, "holds"),
        (-0.1, 2.0, "cannot tell"),
        (-2.0, -0.1, "does not hold"),
        (0.0, 0.0, "does not hold"),  # exactly no gain in any seed
    ],
)
def test_the_interval_decides(low: float, high: float, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high, 5)) == expected


def speed_table(accuracies: dict[str, list[float]]) -> pd.DataFrame:
    """Two seeds that measure these test accuracies after updates 10, 20 and 30."""
    return pd.DataFrame(
        {"network": key, "lr": 0.01, "seed": seed, "update": 10 * (i + 1), "test_accuracy": value}
        for key, values in accuracies.items()
        for seed in range(2)
        for i, value in enumerate(values)
    )


def test_an_accuracy_that_is_not_reached_counts_the_last_update() -> None:
    table = speed_table({"simple_mlp": [0.5, 0.8, 0.85], "batchnorm_mlp": [0.8, 0.9, 0.89]})
    found = reached(table, 0.9).set_index(["network", "seed"])
    assert found.loc[("batchnorm_mlp", 0)].to_dict() == {"lr": 0.01, "update": 20, "reached": True}
    assert found.loc[("simple_mlp", 0)].to_dict() == {"lr": 0.01, "update": 30, "reached": False}


def exchanged(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The same tables with the names of the two networks exchanged."""
    other = dict(zip(KEYS, KEYS[::-1], strict=True))
    return {name: table.replace({"network": other}) for name, table in tables.items()}


def test_what_one_network_gains_the_other_loses(study_tables: dict[str, pd.DataFrame]) -> None:
    gains, losses = judge(study_tables), judge(exchanged(study_tables))
    assert list(gains) == [claim.key for claim in CLAIMS]
    for key in set(gains) - {"most_scales_faster", "scales_lost"}:  # which have no opposite
        assert losses[key]["mean"] == pytest.approx(-gains[key]["mean"]), key


def test_a_scale_is_lost_where_only_the_plain_network_stays_at_chance() -> None:
    finals = {"simple_mlp": [0.1, 0.1, 0.9], "batchnorm_mlp": [0.1, 0.3, 0.9]}
    table = pd.DataFrame(
        {"network": key, "seed": seed, "scale": scale, "epoch": 0, "accuracy": accuracy}
        for key, accuracies in finals.items()
        for seed in range(2)
        for scale, accuracy in enumerate(accuracies)
    )
    gains = {claim.key: claim.gain for claim in CLAIMS}
    assert gains["scales_lost"]({"scale": table}).tolist() == [1, 1]
    assert gains["scales"]({"scale": table}).tolist() == [0, 0]
    assert gains["most_scales_faster"]({"scale": table}).tolist() == pytest.approx(
        [100 / 3 - 50] * 2
    )


def test_dropout_is_spared_where_it_gains_less() -> None:
    ends = {("simple_mlp", 0.0): 0.7, ("simple_mlp", 0.2): 0.8,
            ("batchnorm_mlp", 0.0): 0.8, ("batchnorm_mlp", 0.2): 0.82}  # fmt: skip
    table = pd.DataFrame(
        {"shape": "two", "network": key, "dropout": dropout, "seed": seed, "epoch": 1,
         "train_accuracy": 1.0, "test_accuracy": accuracy}
        for (key, dropout), accuracy in ends.items()
        for seed in range(2)
    )  # fmt: skip
    gains = {claim.key: claim.gain for claim in CLAIMS}
    assert gains["dropout_two"]({"overfitting": table}).tolist() == pytest.approx([8, 8])
    assert gains["gap_two"]({"overfitting": table}).tolist() == pytest.approx([10, 10])
