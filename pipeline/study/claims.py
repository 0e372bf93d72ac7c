"""The claims about batch normalisation, and what each comes to in every seed.

A claim compares one value of the network with batch normalisation with that of its twin without,
and says whether it is more or less.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from pipeline.study.statistics import interval, verdict

Tables = dict[str, pd.DataFrame]

THRESHOLDS = (0.9, 0.95, 0.97)  # test accuracies to reach
ENOUGH = 0.95  # the accuracy that a learning rate must reach to count as usable
LEARNT, CHANCE = 0.5, 0.2  # accuracies above and below which a network has learnt, or has not
PAIR = ["network", "seed"]


class Claim(NamedTuple):
    """`values` gives one number a network and seed, in `unit`; `promise` is of the normalised one.

    `statement` goes on from "a network with batch normalisation …".
    """

    key: str
    experiment: str
    statement: str
    promise: Literal["more", "less"]
    unit: str
    values: Callable[[Tables], pd.Series]


def reached(table: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    """Return the first measured update at that test accuracy for each network, lr and seed.

    Where it was not reached, `reached` is false and `update` the last one: too small a number.
    """
    runs = ["network", "lr", "seed"]
    last = table.groupby(runs)["update"].max()
    first = table[table["test_accuracy"] >= accuracy].groupby(runs)["update"].min()
    found = first.reindex(last.index)
    return pd.DataFrame({"update": found.fillna(last), "reached": found.notna()}).reset_index()


def updates_to_90(tables: Tables) -> pd.Series:
    """How many updates it takes to reach 90 %."""
    return reached(tables["speed"], 0.9).set_index(PAIR)["update"]


def final_speed(tables: Tables) -> pd.Series:
    """The test accuracy in percent at the end of the source's recipe."""
    table = tables["speed"]
    last = table[table["update"] == table["update"].max()]
    return 100 * last.set_index(PAIR)["test_accuracy"]


def usable_rates(tables: Tables) -> pd.Series:
    """How many learning rates reach 95 %."""
    return reached(tables["rates"], ENOUGH).groupby(PAIR)["reached"].sum()


def best_rate(tables: Tables) -> pd.Series:
    """The test accuracy in percent at the end, with the learning rate that is best."""
    table = tables["rates"]
    last = table[table["update"] == table["update"].max()]
    return 100 * last.groupby(PAIR)["test_accuracy"].max()


def final_accuracies(tables: Tables) -> pd.DataFrame:
    """The last accuracy of each network, seed (rows) and initial scale (columns)."""
    table = tables["scale"]
    last = table[table["epoch"] == table["epoch"].max()]
    return last.pivot_table(index=PAIR, columns="scale", values="accuracy")


def scales_at(tables: Tables, accuracy: float) -> pd.Series:
    """From how many initial scales that accuracy is reached in the end."""
    return (final_accuracies(tables) >= accuracy).sum(axis=1)


def faster_scales(tables: Tables) -> pd.Series:
    """At how many initial scales the mean accuracy of all epochs is the higher of the two."""
    means = tables["scale"].groupby(["seed", "scale", "network"])["accuracy"].mean().unstack()
    wins = means.eq(means.max(axis=1), axis=0)
    return wins.groupby("seed").sum().unstack()


def best_scale(tables: Tables) -> pd.Series:
    """The last accuracy in percent at the scale that is best."""
    return 100 * final_accuracies(tables).max(axis=1)


def plain_best_scale(tables: Tables) -> pd.Series:
    """The last accuracy in percent at the scale at which the plain network's is best."""
    finals = final_accuracies(tables)
    return 100 * finals[finals.loc["simple_mlp"].mean().idxmax()]


def decades(table: pd.DataFrame, value: str, by: list[str]) -> pd.Series:
    """The powers of ten between the largest and the smallest value of each group."""
    logarithms = table.assign(log10=np.log10(table[value])).groupby(by)["log10"]
    return logarithms.max() - logarithms.min()


def untrained(tables: Tables) -> pd.DataFrame:
    """The rows of the activations before training."""
    table = tables["activations"]
    return table[table["moment"] == "before training"]


def spread_range(tables: Tables) -> pd.Series:
    """The powers of ten between the layers' spreads, at the worst scale."""
    by_scale = decades(untrained(tables), "spread", [*PAIR, "scale"])
    return by_scale.groupby(PAIR).max()


def gradient_range(tables: Tables) -> pd.Series:
    """The powers of ten between the gradients of all layers and scales."""
    return decades(untrained(tables), "gradient", PAIR)


def learnt_by_heart(tables: Tables, shape: str) -> pd.DataFrame:
    """The accuracies in percent at the end, by network, seed and dropout."""
    table = tables["overfitting"]
    last = table[(table["epoch"] == table["epoch"].max()) & (table["shape"] == shape)]
    return 100 * last.set_index([*PAIR, "dropout"])[["train_accuracy", "test_accuracy"]]


def gap(tables: Tables, shape: str) -> pd.Series:
    """By how much the accuracy falls from the training images to the test images."""
    accuracies = learnt_by_heart(tables, shape).xs(0.0, level="dropout")
    return accuracies["train_accuracy"] - accuracies["test_accuracy"]


def dropout_gain(tables: Tables, shape: str) -> pd.Series:
    """By how much dropout improves the test accuracy."""
    accuracies = learnt_by_heart(tables, shape)["test_accuracy"].unstack("dropout")
    return accuracies.iloc[:, 1] - accuracies.iloc[:, 0]


CLAIMS = [
    Claim("updates_to_90", "speed", "needs fewer updates to 90 % test accuracy",
          "less", "updates", updates_to_90),
    Claim("accuracy", "speed", "has a higher test accuracy at the end of the training",
          "more", "points", final_speed),
    Claim("learning_rates", "rates", "reaches 95 % in time at more of seven learning rates",
          "more", "rates", usable_rates),
    Claim("best_rate", "rates", "has a higher test accuracy where each has its best learning rate",
          "more", "points", best_rate),
    Claim("even_spread", "activations",
          "begins with the same spread in all layers, whatever the initial scale",
          "less", "powers of ten", spread_range),
    Claim("even_gradients", "activations",
          "begins with gradients of the same size, whatever the initial scale",
          "less", "powers of ten", gradient_range),
    Claim("faster_scales", "scale", "learns faster than its twin at more of 16 initial scales",
          "more", "scales", faster_scales),
    Claim("beyond_chance", "scale", "learns anything at all at more of 16 initial scales",
          "more", "scales", partial(scales_at, accuracy=CHANCE)),
    Claim("scales", "scale", "learns well at more of 16 initial scales",
          "more", "scales", partial(scales_at, accuracy=LEARNT)),
    Claim("best_scale", "scale", "is more accurate where each has its best initial scale",
          "more", "points", best_scale),
    Claim("plain_best_scale", "scale", "is better even at the scale that suits its twin best",
          "more", "points", plain_best_scale),
    Claim("gap_two", "overfitting", "overfits less (two hidden layers)",
          "less", "points", partial(gap, shape="two")),
    Claim("gap_five", "overfitting", "overfits less (five hidden layers)",
          "less", "points", partial(gap, shape="five")),
    Claim("dropout_two", "overfitting", "gains less from dropout (two hidden layers)",
          "less", "points", partial(dropout_gain, shape="two")),
    Claim("dropout_five", "overfitting", "gains less from dropout (five hidden layers)",
          "less", "points", partial(dropout_gain, shape="five")),
]  # fmt: skip


def judge(tables: Tables) -> dict[str, dict[str, Any]]:
    """Return each claim's verdict, the means of both networks and, with its interval, how much more
    the normalised one has, pair by pair."""
    verdicts = {}
    for claim in CLAIMS:
        values = claim.values(tables).astype(float)
        plain, normed = values["simple_mlp"], values["batchnorm_mlp"]
        difference = interval(normed - plain)
        verdicts[claim.key] = {
            "claim": claim.statement,
            "verdict": verdict(difference, claim.promise),
            "without": float(plain.mean()),
            "with": float(normed.mean()),
            **difference._asdict(),
            "unit": claim.unit,
        }
    return verdicts
