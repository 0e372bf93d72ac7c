"""The claims about batch normalization, and the values that decide them.

A claim predicts that a value is more, or less, for the network with batch normalization than for
its twin without it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from pipeline.study.experiments import Tables
from pipeline.study.overfitting import LRS, SHAPES, dropout_gain, gap
from pipeline.study.pair import NORMED, PLAIN, RUN
from pipeline.study.price import CORRUPTED, lost
from pipeline.study.statistics import interval, verdict

THRESHOLDS = (0.9, 0.95, 0.97)  # test accuracies to reach
ENOUGH = 0.95  # the accuracy that a learning rate must reach to count as usable
LEARNED, CHANCE = 0.5, 0.2  # accuracies from which a network counts as having learned, and at all


class Claim(NamedTuple):
    """One claim. `statement` continues "a network with batch normalization …".

    values: returns one number per network and seed, in `unit`. promise: whether that number is
    more or less with batch normalization than without it.
    """

    key: str
    experiment: str
    statement: str
    promise: Literal["more", "less"]
    unit: str
    values: Callable[[Tables], pd.Series]


def reached(table: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    """Return the first measured update at that test accuracy for each network, lr and seed.

    Where it was not reached, `reached` is false and `update` is the last one, an underestimate.
    """
    runs = ["network", "lr", "seed"]
    last = table.groupby(runs)["update"].max()
    first = table[table["test_accuracy"] >= accuracy].groupby(runs)["update"].min()
    found = first.reindex(last.index)
    return pd.DataFrame({"update": found.fillna(last), "reached": found.notna()}).reset_index()


def updates_to_90(tables: Tables) -> pd.Series:
    """The number of updates to 90% test accuracy."""
    return reached(tables["speed"], 0.9).set_index(RUN)["update"]


def final_speed(tables: Tables) -> pd.Series:
    """The test accuracy in percent at the end of the tutorial's recipe."""
    table = tables["speed"]
    last = table[table["update"] == table["update"].max()]
    return 100 * last.set_index(RUN)["test_accuracy"]


def usable_rates(tables: Tables) -> pd.Series:
    """The number of learning rates that reach 95% test accuracy."""
    return reached(tables["rates"], ENOUGH).groupby(RUN)["reached"].sum()


def best_rate(tables: Tables) -> pd.Series:
    """The test accuracy in percent at the end, at the best learning rate."""
    table = tables["rates"]
    last = table[table["update"] == table["update"].max()]
    return 100 * last.groupby(RUN)["test_accuracy"].max()


def final_accuracies(tables: Tables) -> pd.DataFrame:
    """The last accuracy of each network, seed (rows) and initial scale (columns)."""
    table = tables["scale"]
    last = table[table["epoch"] == table["epoch"].max()]
    return last.pivot_table(index=RUN, columns="scale", values="accuracy")


def scales_at(tables: Tables, accuracy: float) -> pd.Series:
    """The number of initial scales from which that accuracy is reached at the end."""
    return (final_accuracies(tables) >= accuracy).sum(axis=1)


def faster_scales(tables: Tables) -> pd.Series:
    """The number of initial scales at which its mean accuracy over all epochs is the higher one."""
    means = tables["scale"].groupby(["seed", "scale", "network"])["accuracy"].mean().unstack()
    wins = means.eq(means.max(axis=1), axis=0)
    return wins.groupby("seed").sum().unstack()


def best_scale(tables: Tables) -> pd.Series:
    """The last accuracy in percent at the best scale."""
    return 100 * final_accuracies(tables).max(axis=1)


def plain_best_scale(tables: Tables) -> pd.Series:
    """The last accuracy in percent at the scale that is best for the plain network."""
    finals = final_accuracies(tables)
    return 100 * finals[finals.loc[PLAIN].mean().idxmax()]


def decades(tables: Tables, value: str, by: list[str]) -> pd.Series:
    """The powers of ten between each group's largest and smallest value before training."""
    table = tables["activations"]
    table = table[table["moment"] == "before training"]
    logarithms = table.assign(log10=np.log10(table[value])).groupby(by)["log10"]
    return logarithms.max() - logarithms.min()


def spread_range(tables: Tables) -> pd.Series:
    """The powers of ten between the layers' spreads, at the worst scale."""
    return decades(tables, "spread", [*RUN, "scale"]).groupby(RUN).max()


def gradient_range(tables: Tables) -> pd.Series:
    """The powers of ten between the gradients of all layers and scales."""
    return decades(tables, "gradient", RUN)


CLAIMS = [
    Claim("updates_to_90", "speed", "needs fewer updates to reach 90% test accuracy",
          "less", "updates", updates_to_90),
    Claim("accuracy", "speed", "has a higher test accuracy at the end of training",
          "more", "%", final_speed),
    Claim("learning_rates", "rates",
          "reaches 95% test accuracy at more of the seven learning rates",
          "more", "rates", usable_rates),
    Claim("best_rate", "rates",
          "has a higher test accuracy when each network has its best learning rate",
          "more", "%", best_rate),
    Claim("even_spread", "activations",
          "starts with the same spread in all layers, whatever the initial scale",
          "less", "powers of ten", spread_range),
    Claim("even_gradients", "activations",
          "starts with gradients of the same size, whatever the initial scale",
          "less", "powers of ten", gradient_range),
    Claim("faster_scales", "scale", "learns faster than its twin at more of the 16 initial scales",
          "more", "scales", faster_scales),
    Claim("beyond_chance", "scale", "learns anything at all at more of the 16 initial scales",
          "more", "scales", partial(scales_at, accuracy=CHANCE)),
    Claim("scales", "scale", "learns well at more of the 16 initial scales",
          "more", "scales", partial(scales_at, accuracy=LEARNED)),
    Claim("best_scale", "scale", "is more accurate when each network has its best initial scale",
          "more", "%", best_scale),
    Claim("plain_best_scale", "scale", "is more accurate even at its twin's best initial scale",
          "more", "%", plain_best_scale),
    *(
        Claim(f"{key}_{name}_{lr:g}", "overfitting",
              f"{statement} ({shape.title}, learning rate {lr:g})",
              "less", "points", partial(values, shape=name, lr=lr))
        for key, statement, values in (
            ("gap", "overfits less", gap),
            ("dropout", "gains less from dropout", dropout_gain),
        )
        for name, shape in SHAPES.items()
        for lr in LRS
    ),
    *(
        Claim(f"loss_{name}", "price", f"loses more accuracy when the images are {changed}",
              "more", "points", partial(lost, corruption=name))
        for name, changed in CORRUPTED.items()
    ),
]  # fmt: skip


def judge(tables: Tables) -> dict[str, dict[str, Any]]:
    """Return each claim's verdict, both means, and the interval of the paired difference."""
    verdicts = {}
    for claim in CLAIMS:
        values = claim.values(tables).astype(float)
        plain, normed = values[PLAIN], values[NORMED]
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
