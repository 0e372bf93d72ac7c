"""Writes the report in Markdown: the text of template.md with its numbers, verdicts and tables."""

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import StrictUndefined, Template

from pipeline.core.params import StudyParams
from pipeline.study.claims import CLAIMS, THRESHOLDS, final_speed, reached, small_set_accuracies
from pipeline.study.experiments import Tables
from pipeline.study.overfitting import DROPOUTS, LRS, SHAPES
from pipeline.study.pair import PAIR
from pipeline.study.scale import updates
from pipeline.study.statistics import interval

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
        params=params,
        rates_updates=last["update"],
        updates_per_epoch=last["update"] / last["epoch"],
        scale_updates=updates(params.scale_epochs),
        overfitting_lrs=LRS,
        speed_rows=speed_rows(tables),
        overfitting_rows=overfitting_rows(tables),
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
