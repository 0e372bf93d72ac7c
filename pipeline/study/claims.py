"""The claims about batch normalisation, and what each comes to in every seed.

A claim's gain is one number a seed, always of the network with batch normalisation against its
twin without; it is above 0 where the claim is right.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.study.statistics import interval, verdict

Tables = dict[str, pd.DataFrame]

THRESHOLDS = (0.9, 0.95, 0.97)  # test accuracies to reach
ENOUGH = 0.95  # the accuracy that a learning rate must reach to count as usable
LEARNT, CHANCE = 0.5, 0.2  # accuracies above and below which a network has learnt, or has not


class Claim(NamedTuple):
    """`gain` gives one number a seed, in `unit`."""

    key: str
    experiment: str
    statement: str
    unit: str
    gain: Callable[[Tables], pd.Series]


def reached(table: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    """Return the first measured update at that test accuracy for each network, lr and seed.

    Where it was not reached, `reached` is false and `update` the last one: too small a number.
    """
    runs = ["network", "lr", "seed"]
    last = table.groupby(runs)["update"].max()
    first = table[table["test_accuracy"] >= accuracy].groupby(runs)["update"].min()
    found = first.reindex(last.index)
    return pd.DataFrame({"update": found.fillna(last), "reached": found.notna()}).reset_index()


def saved(values: pd.Series) -> pd.Series:
    """Return, by seed, what less the normalised network has of values by network and seed."""
    return values["simple_mlp"] - values["batchnorm_mlp"]


def updates_saved(tables: Tables) -> pd.Series:
    """How many updates fewer it takes to reach 90 %."""
    return saved(reached(tables["speed"], 0.9).set_index(["network", "seed"])["update"])


def final_speed(tables: Tables) -> pd.Series:
    """The test accuracy in percent at the end of the source's recipe, by network and seed."""
    table = tables["speed"]
    last = table[table["update"] == table["update"].max()]
    return 100 * last.set_index(["network", "seed"])["test_accuracy"]


def accuracy_gained(tables: Tables) -> pd.Series:
    """The test accuracy gained at the end, in percentage points."""
    return -saved(final_speed(tables))


def rates_gained(tables: Tables) -> pd.Series:
    """How many more learning rates reach 95 %."""
    found = reached(tables["rates"], ENOUGH)
    return -saved(found.groupby(["network", "seed"])["reached"].sum().astype(float))


def final_accuracies(tables: Tables) -> pd.DataFrame:
    """The last accuracy of each network, seed (rows) and initial scale (columns)."""
    table = tables["scale"]
    last = table[table["epoch"] == table["epoch"].max()]
    return last.pivot_table(index=["network", "seed"], columns="scale", values="accuracy")


def scales_gained(tables: Tables) -> pd.Series:
    """How many more initial scales are learnt from."""
    return -saved((final_accuracies(tables) >= LEARNT).sum(axis=1).astype(float))


def scales_lost(tables: Tables) -> pd.Series:
    """At how many initial scales the plain network stays at chance and its twin does not."""
    at_chance = final_accuracies(tables) < CHANCE
    plain, normed = at_chance.loc["simple_mlp"], at_chance.loc["batchnorm_mlp"]
    return (plain & ~normed).sum(axis=1).astype(float)


def majority_faster(tables: Tables) -> pd.Series:
    """The percentage of scales at which the mean accuracy of all epochs is higher, beyond 50."""
    means = tables["scale"].groupby(["network", "seed", "scale"])["accuracy"].mean()
    faster = means["batchnorm_mlp"] > means["simple_mlp"]
    return 100 * faster.groupby("seed").mean() - 50


def decades(table: pd.DataFrame, value: str, by: list[str]) -> pd.Series:
    """The powers of ten between the largest and the smallest value of each group."""
    logarithms = table.assign(log10=np.log10(table[value])).groupby(by)["log10"]
    return logarithms.max() - logarithms.min()


def untrained(tables: Tables) -> pd.DataFrame:
    """The rows of the activations before training."""
    table = tables["activations"]
    return table[table["moment"] == "before training"]


def spread_evened(tables: Tables) -> pd.Series:
    """The powers of ten between the layers' spreads, at the worst scale, that are saved."""
    by_scale = decades(untrained(tables), "spread", ["network", "seed", "scale"])
    return saved(by_scale.groupby(["network", "seed"]).max())


def gradient_evened(tables: Tables) -> pd.Series:
    """The powers of ten between the gradients of all layers and scales that are saved."""
    return saved(decades(untrained(tables), "gradient", ["network", "seed"]))


def learnt_by_heart(tables: Tables, shape: str) -> pd.DataFrame:
    """The accuracies in percent at the end, by network, seed and dropout."""
    table = tables["overfitting"]
    last = table[(table["epoch"] == table["epoch"].max()) & (table["shape"] == shape)]
    return 100 * last.set_index(["network", "seed", "dropout"])[["train_accuracy", "test_accuracy"]]


def gap_closed(tables: Tables, shape: str) -> pd.Series:
    """By how much less the accuracy falls from the training images to the test images."""
    accuracies = learnt_by_heart(tables, shape).xs(0.0, level="dropout")
    return saved(accuracies["train_accuracy"] - accuracies["test_accuracy"])


def dropout_spared(tables: Tables, shape: str) -> pd.Series:
    """By how much less dropout improves the test accuracy."""
    accuracies = learnt_by_heart(tables, shape)["test_accuracy"].unstack("dropout")
    return saved(accuracies.iloc[:, 1] - accuracies.iloc[:, 0])


CLAIMS = [
    Claim("updates_to_90", "speed", "learns faster: it needs fewer updates to 90 % test accuracy",
          "updates fewer", updates_saved),
    Claim("accuracy", "speed", "has a higher test accuracy at the end of the training",
          "points more", accuracy_gained),
    Claim("learning_rates", "rates", "learns well at more of seven learning rates",
          "rates more", rates_gained),
    Claim("even_spread", "activations", "keeps its activations evenly spread over the layers",
          "powers of ten less", spread_evened),
    Claim("even_gradients", "activations", "keeps its gradients from vanishing and exploding",
          "powers of ten less", gradient_evened),
    Claim("most_scales_faster", "scale", "learns faster at most initial scales",
          "points more than half of the scales", majority_faster),
    Claim("scales_lost", "scale", "learns something at scales where the plain one learns nothing",
          "such scales of 16", scales_lost),
    Claim("scales", "scale", "learns well from more of 16 initial scales",
          "scales more", scales_gained),
    Claim("gap_two", "overfitting", "overfits less (two hidden layers)",
          "points less", partial(gap_closed, shape="two")),
    Claim("gap_five", "overfitting", "overfits less (five hidden layers)",
          "points less", partial(gap_closed, shape="five")),
    Claim("dropout_two", "overfitting", "needs dropout less (two hidden layers)",
          "points less", partial(dropout_spared, shape="two")),
    Claim("dropout_five", "overfitting", "needs dropout less (five hidden layers)",
          "points less", partial(dropout_spared, shape="five")),
]  # fmt: skip


def judge(tables: Tables) -> dict[str, dict[str, Any]]:
    """Return each claim's verdict with the interval that decided it."""
    verdicts = {}
    for claim in CLAIMS:
        gain = interval(claim.gain(tables))
        verdicts[claim.key] = {"verdict": verdict(gain), **gain._asdict(), "unit": claim.unit}
    return verdicts
