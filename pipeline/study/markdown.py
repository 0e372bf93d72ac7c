"""Writes the report in Markdown: the text of template.md with its numbers, verdicts and tables."""

from itertools import product
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from jinja2 import StrictUndefined, Template

from pipeline.core.params import StudyParams
from pipeline.data.corruptions import PHOTOMETRIC
from pipeline.data.dataset import NAME
from pipeline.study import centering
from pipeline.study.claims import (
    CLAIMS,
    THRESHOLDS,
    final_speed,
    reached,
)
from pipeline.study.experiments import Tables
from pipeline.study.overfitting import DROPOUTS, LRS, SHAPES, small_set_accuracies
from pipeline.study.pair import NORMED, PAIR, PLAIN
from pipeline.study.price import CORRUPTED, SAMPLE, TITLES, re_estimation_gains
from pipeline.study.scale import updates
from pipeline.study.statistics import interval, verdict

ACCURACY = "test_accuracy"
TEMPLATE = Path(__file__).with_name("template.md")


def to_markdown(tables: Tables, verdicts: dict[str, dict[str, Any]], params: StudyParams) -> str:
    """Return the report on the tables; every number in it comes from the tables or the params."""
    last = tables["rates"].iloc[-1]
    template = Template(
        TEMPLATE.read_text(),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return template.render(
        claims=[claim._asdict() | verdicts[claim.key] for claim in CLAIMS],
        data=NAME,
        params=params,
        rates_updates=last["update"],
        updates_per_epoch=last["update"] / last["epoch"],
        scale_updates=updates(params.scale_epochs),
        overfitting_lrs=LRS,
        speed_rows=speed_rows(tables),
        overfitting_rows=overfitting_rows(tables),
        sample=SAMPLE,
        price_rows=price_rows(tables),
        centering_images=min(params.images, centering.IMAGES),
        centering_lr=centering.LR,
        harmed_without=kinds(centering_gains(tables, PLAIN), "less"),
        harmed_with=kinds(centering_gains(tables, NORMED), "less"),
        repaired=kinds(re_estimation_gains(tables), "more"),
        worsened=kinds(re_estimation_gains(tables), "less"),
        centering_rows=centering_rows(tables),
        number=number,
        measured=measured,
        with_interval=with_interval,
    )


def number(value: float) -> str:
    """Return a number with about three digits, an integer as it is."""
    digits = 0 if abs(value) >= 100 or float(value).is_integer() else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace("-", "−")


def measured(value: float, unit: str) -> str:
    """Return a number with its unit."""
    return number(value) + ("%" if unit == "%" else f" {unit}")


def with_interval(mean: float, low: float, high: float, seeds: int, unit: str) -> str:
    """Return a mean with its unit and its interval, unless all seeds gave the same."""
    if low == high:
        return f"{measured(mean, unit)} in all {seeds} pairs"
    return f"{measured(mean, unit)} ({number(low)} to {number(high)})"


def speed_rows(tables: Tables) -> list[list[str]]:
    """Return the updates to each test accuracy, without and with batch normalization."""
    rows = []
    for threshold in THRESHOLDS:
        found = reached(tables["speed"], threshold).set_index("network")
        cells = [updates_needed(found.loc[key]) for key in PAIR]
        rows.append([f"reaching {threshold:.0%} test accuracy", *cells])
    ends = [with_interval(*interval(final_speed(tables)[key]), "%") for key in PAIR]
    return [*rows, ["test accuracy at the end", *ends]]


def updates_needed(found: pd.DataFrame) -> str:
    """Return one network's mean number of updates, or in how many pairs it arrived."""
    arrived = int(found["reached"].sum())
    if arrived < len(found):
        return f"reached in {arrived} of {len(found)} pairs"
    return with_interval(*interval(found["update"]), "updates")


def overfitting_rows(tables: Tables) -> list[list[str]]:
    """Return the accuracies at the end of the training on few images: one row per shape, learning
    rate and dropout, with training and then test accuracy, each without and with batch
    normalization."""
    rows = []
    for (name, shape), lr, dropout in product(SHAPES.items(), LRS, DROPOUTS):
        pairs = small_set_accuracies(tables, name, lr).xs(dropout, level="dropout")
        cells = [measured(pairs["train_accuracy"][key].mean(), "%") for key in PAIR]
        cells += [with_interval(*interval(pairs["test_accuracy"][key]), "%") for key in PAIR]
        rows.append([shape.title, f"{lr:g}", "yes" if dropout else "no", *cells])
    return rows


def price_rows(tables: Tables) -> list[list[str]]:
    """Return the accuracies on clean and corrupted images: one row per kind of images, with the
    network without batch normalization and then each variant of its twin."""
    columns = ["as trained", "re-estimated", "half sevens", "half sevens, corrected"]
    variants = [(PLAIN, "as trained"), *((NORMED, variant) for variant in columns)]
    means = 100 * tables["price"].groupby(["corruption", "network", "variant"])[ACCURACY].mean()
    return [
        [title, *(measured(means[kind, *variant], "%") for variant in variants)]
        for kind, title in TITLES.items()
    ]


def centering_rows(tables: Tables) -> list[list[str]]:
    """Return the accuracies of experiment `centering`: one row per kind of images, without
    and then with batch normalization, each on the usual and on the centered images."""
    groups = tables["centering"].groupby(["corruption", "network", "images"])[ACCURACY]
    found = {names: with_interval(*interval(100 * values), "%") for names, values in groups}
    return [
        [TITLES[kind], *(found[kind, *column] for column in product(PAIR, ("usual", "centered")))]
        for kind in ("clean", *PHOTOMETRIC)
    ]


def centering_gains(tables: Tables, key: str) -> pd.DataFrame:
    """Return by how much centering raises a network's accuracy, by seed and corruption."""
    table = tables["centering"]
    accuracies = table[table["network"] == key].pivot_table(
        index="seed", columns=["images", "corruption"], values=ACCURACY
    )
    return accuracies["centered"] - accuracies["usual"]


def kinds(gains: pd.DataFrame, promise: Literal["more", "less"]) -> str:
    """Return what the corruptions make of those images on which the gain is above, or below, 0."""
    found = [
        words
        for corruption, words in CORRUPTED.items()
        if corruption in gains and verdict(interval(gains[corruption]), promise) == "holds"
    ]
    return ", ".join(found) or "none"
