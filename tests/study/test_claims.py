from typing import Literal

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.study.claims import CLAIMS, Claim, judge, reached
from pipeline.study.experiments import Tables
from pipeline.study.pair import NORMED, PLAIN
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
    table = speed_table({PLAIN: [0.5, 0.8, 0.85], NORMED: [0.8, 0.9, 0.89]})
    found = reached(table, 0.9).set_index(["network", "seed"])
    assert found.loc[(NORMED, 0)].to_dict() == {"lr": 0.01, "update": 20, "reached": True}
    assert found.loc[(PLAIN, 0)].to_dict() == {"lr": 0.01, "update": 30, "reached": False}


def claim_of(key: str) -> Claim:
    (claim,) = (claim for claim in CLAIMS if claim.key == key)
    return claim


def differences(key: str, name: str, table: pd.DataFrame) -> list[float]:
    """How much more the network with batch normalization has in each seed."""
    values = claim_of(key).values({name: table}).astype(float)
    return list(values[NORMED] - values[PLAIN])


def test_a_learning_rate_counts_if_it_reaches_95_percent_at_any_measurement() -> None:
    accuracies = {
        (PLAIN, 0.1): [0.9, 0.95, 0.9],
        (PLAIN, 1.0): [0.1, 0.1, 0.93],
        (NORMED, 0.1): [0.95, 0.96, 0.97],
        (NORMED, 1.0): [0.9, 0.94, 0.95],
    }
    table = pd.concat(
        speed_table({key: values}).assign(lr=lr) for (key, lr), values in accuracies.items()
    )
    assert differences("learning_rates", "rates", table) == [1, 1]
    assert differences("best_rate", "rates", table) == pytest.approx([4, 4])  # at the end


def test_ranges_before_training_are_in_powers_of_ten() -> None:
    spreads = {(PLAIN, 1): 1.0, (PLAIN, 2): 0.001, (NORMED, 1): 1.0, (NORMED, 2): 10.0}
    table = pd.DataFrame(
        {
            "network": key,
            "seed": seed,
            "scale": scale,
            "layer": layer,
            "moment": moment,
            "spread": values[moment] if scale == "small" else 1.0,
            "gradient": values[moment] * (100 if scale == "large" else 1),
        }
        for (key, layer), before in spreads.items()
        for values in [{"before training": before, "after training": 1e-9**layer}]
        for moment in values
        for seed in range(2)
        for scale in ("small", "large")
    )
    assert differences("even_spread", "activations", table) == pytest.approx([-2, -2])
    assert differences("even_gradients", "activations", table) == pytest.approx([-2, -2])


def exchanged(tables: Tables) -> Tables:
    """The same tables with the names of the two networks exchanged."""
    other = {PLAIN: NORMED, NORMED: PLAIN}
    return {name: table.replace({"network": other}) for name, table in tables.items()}


def test_exchanging_the_networks_negates_every_difference(study_tables: Tables) -> None:
    price = study_tables["price"]
    trained = price[price["variant"] == "as trained"]  # only one network can be re-estimated
    both = pd.concat([trained, trained.assign(variant="re-estimated")])
    tables = study_tables | {"price": both}
    found, opposite = judge(tables), judge(exchanged(tables))
    assert list(found) == [claim.key for claim in CLAIMS]
    for key in set(found) - {"plain_best_scale"}:  # which favors the plain network
        assert opposite[key]["mean"] == pytest.approx(-found[key]["mean"]), key
        assert opposite[key]["with"] == pytest.approx(found[key]["without"]), key


def test_scales_count_where_a_network_learns_or_is_the_faster() -> None:
    finals = {PLAIN: [0.1, 0.1, 0.95], NORMED: [0.1, 0.3, 0.9]}
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


def overfitting_table(test_accuracies: dict[tuple[str, float], float]) -> pd.DataFrame:
    """Two seeds that end with these test accuracies by network and dropout, but in the shape "two"
    at learning rate 0.03 alone; everywhere else no network gets anything right.
    """
    return pd.DataFrame(
        {
            "shape": shape,
            "network": key,
            "dropout": dropout,
            "lr": lr,
            "seed": seed,
            "epoch": epoch,
            "train_accuracy": float((shape, lr, epoch) == ("two", 0.03, 2)),
            "test_accuracy": accuracy * ((shape, lr, epoch) == ("two", 0.03, 2)),
        }
        for (key, dropout), accuracy in test_accuracies.items()
        for shape in ("two", "five")
        for lr in (0.01, 0.03, 0.1)
        for seed in range(2)
        for epoch in (1, 2)
    )


def test_overfitting_is_measured_at_the_end_in_its_own_shape_and_at_its_own_rate() -> None:
    ends = {(PLAIN, 0.0): 0.7, (PLAIN, 0.2): 0.8, (NORMED, 0.0): 0.8, (NORMED, 0.2): 0.82}
    table = overfitting_table(ends)
    assert differences("dropout_two_0.03", "overfitting", table) == pytest.approx([-8, -8])
    assert differences("gap_two_0.03", "overfitting", table) == pytest.approx([-10, -10])
    for other in ("two_0.01", "two_0.1", "five_0.03"):
        assert differences(f"dropout_{other}", "overfitting", table) == [0, 0]
        assert differences(f"gap_{other}", "overfitting", table) == [0, 0]


@pytest.mark.parametrize("lr", ["0.01", "0.03", "0.1"])
@pytest.mark.parametrize("shape", ["two", "five"])
@pytest.mark.parametrize(
    ("key", "statement"), [("gap", "overfits less"), ("dropout", "gains less from dropout")]
)
def test_every_claim_on_overfitting_exists_for_each_shape_and_rate(
    key: str, statement: str, shape: str, lr: str
) -> None:
    claim = claim_of(f"{key}_{shape}_{lr}")
    assert claim.statement == f"{statement} ({shape} hidden layers, learning rate {lr})"
    assert claim.promise == "less"


def test_no_other_claim_on_overfitting_exists() -> None:
    assert sum(claim.experiment == "overfitting" for claim in CLAIMS) == 2 * 2 * 3


def test_every_claim_has_a_key_and_a_statement_of_its_own() -> None:
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS)
    assert len({claim.statement for claim in CLAIMS}) == len(CLAIMS)
