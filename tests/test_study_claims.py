from typing import Literal

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
    ("low", "high", "promise", "expected"),
    [
        (0.1, 2.0, "more", "holds"),
        (-0.1, 2.0, "more", "cannot tell"),
        (-2.0, -0.1, "more", "does not hold"),
        (0.0, 0.0, "more", "does not hold"),  # exactly no difference in any seed
        (0.1, 2.0, "less", "does not hold"),
        (-0.1, 2.0, "less", "cannot tell"),
        (-2.0, -0.1, "less", "holds"),
    ],
)
def test_the_interval_decides(
    low: float, high: float, promise: Literal["more", "less"], expected: str
) -> None:
    assert verdict(Interval((low + high) / 2, low, high, 5), promise) == expected


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


def test_what_one_network_has_more_the_other_has_less(
    study_tables: dict[str, pd.DataFrame],
) -> None:
    found, opposite = judge(study_tables), judge(exchanged(study_tables))
    assert list(found) == [claim.key for claim in CLAIMS]
    for key in set(found) - {"plain_best_scale"}:  # which favours the plain network
        assert opposite[key]["mean"] == pytest.approx(-found[key]["mean"]), key
        assert opposite[key]["with"] == pytest.approx(found[key]["without"]), key


def differences(key: str, name: str, table: pd.DataFrame) -> list[float]:
    """How much more the normalised network has in each seed."""
    (claim,) = (claim for claim in CLAIMS if claim.key == key)
    values = claim.values({name: table}).astype(float)
    return list(values["batchnorm_mlp"] - values["simple_mlp"])


def test_scales_count_where_a_network_learns_or_is_the_faster() -> None:
    finals = {"simple_mlp": [0.1, 0.1, 0.95], "batchnorm_mlp": [0.1, 0.3, 0.9]}
    table = pd.DataFrame(
        {"network": key, "seed": seed, "scale": scale, "epoch": 0, "accuracy": accuracy}
        for key, accuracies in finals.items()
        for seed in range(2)
        for scale, accuracy in enumerate(accuracies)
    )
    assert differences("beyond_chance", "scale", table) == [1, 1]
    assert differences("scales", "scale", table) == [0, 0]
    assert differences("faster_scales", "scale", table) == [0, 0]  # one each, and one draw
    assert differences("plain_best_scale", "scale", table) == pytest.approx([-5, -5])


def test_dropout_and_overfitting_count_by_test_accuracy() -> None:
    ends = {("simple_mlp", 0.0): 0.7, ("simple_mlp", 0.2): 0.8,
            ("batchnorm_mlp", 0.0): 0.8, ("batchnorm_mlp", 0.2): 0.82}  # fmt: skip
    table = pd.DataFrame(
        {"shape": "two", "network": key, "dropout": dropout, "seed": seed, "epoch": 1,
         "train_accuracy": 1.0, "test_accuracy": accuracy}
        for (key, dropout), accuracy in ends.items()
        for seed in range(2)
    )  # fmt: skip
    assert differences("dropout_two", "overfitting", table) == pytest.approx([-8, -8])
    assert differences("gap_two", "overfitting", table) == pytest.approx([-10, -10])
