"""Writes numbers, verdicts and tables in Markdown for the report."""

from itertools import product
from typing import Any

import pandas as pd

from pipeline.study.claims import CLAIMS, THRESHOLDS, final_speed, reached, small_set_accuracies
from pipeline.study.overfitting import DROPOUTS, LRS, SHAPES
from pipeline.study.pair import LABELS, PAIR
from pipeline.study.statistics import Interval, interval
from pipeline.study.tables import Tables

PROMISE = "a network with batch normalization …"


def number(value: float) -> str:
    """Return a number with about three digits, an integer as it is."""
    digits = 0 if abs(value) >= 100 or float(value).is_integer() else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace("-", "−")


def measured(value: float, unit: str) -> str:
    """Return a number with its unit."""
    return number(value) + ("%" if unit == "%" else f" {unit}")


def compared(first: float, second: float, unit: str) -> str:
    """Return two numbers with their unit: `295 vs. 2,064 updates`, `98% vs. 95%`."""
    return f"{measured(first, '%') if unit == '%' else number(first)} vs. {measured(second, unit)}"


def with_interval(found: Interval, unit: str) -> str:
    """Return a mean with its unit and its interval, unless all seeds gave the same."""
    mean = measured(found.mean, unit)
    if found.low == found.high:
        return f"{mean} in all {found.seeds} pairs"
    return f"{mean} ({number(found.low)} to {number(found.high)})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdict_table(verdicts: dict[str, dict[str, Any]], experiment: str) -> str:
    """Return the claims of one experiment."""
    rows = []
    for claim in CLAIMS:
        if claim.experiment == experiment:
            found = verdicts[claim.key]
            difference = Interval(*(found[field] for field in Interval._fields))
            means = [measured(found[which], claim.unit) for which in ("without", "with")]
            verdict = f"**{found['verdict']}**"
            unit = "points" if claim.unit == "%" else claim.unit
            rows.append([claim.statement, verdict, *means, with_interval(difference, unit)])
    return table([PROMISE, "verdict", "without", "with", "difference (95% interval)"], rows)


def summary(verdicts: dict[str, dict[str, Any]]) -> str:
    """Return the claims by verdict, with the means of both networks, as a list."""
    lines = []
    for verdict in ("holds", "does not hold", "cannot tell"):
        claims = [
            f"- {found['claim']}: {compared(found['with'], found['without'], found['unit'])}"
            for found in verdicts.values()
            if found["verdict"] == verdict
        ]
        if claims:
            lines += [f"**{verdict.capitalize()}:** {PROMISE}", "", *claims, ""]
    return "\n".join(lines).rstrip()


def overfitting_table(tables: Tables) -> str:
    """Return the accuracies at the end of the training on few images."""
    rows = []
    for (name, shape), lr in product(SHAPES.items(), LRS):
        accuracies = small_set_accuracies(tables, name, lr)
        for dropout, word in zip(DROPOUTS, ("no", "yes"), strict=True):
            pairs = accuracies.xs(dropout, level="dropout")
            cells = [measured(pairs["train_accuracy"][key].mean(), "%") for key in PAIR]
            cells += [with_interval(interval(pairs["test_accuracy"][key]), "%") for key in PAIR]
            rows.append([shape.title, f"{lr:g}", word, *cells])
    kinds = [
        f"{kind} accuracy {label}" for kind, label in product(("training", "test"), LABELS.values())
    ]
    return table(["network", "learning rate", "dropout", *kinds], rows)


def speed_table(tables: Tables) -> str:
    """Return the updates to each test accuracy, without and with batch normalization."""
    rows = []
    for threshold in THRESHOLDS:
        found = reached(tables["speed"], threshold).set_index("network")
        cells = [_updates(found.loc[key]) for key in PAIR]
        rows.append([f"reaching {threshold:.0%} test accuracy", *cells])
    ends = [with_interval(interval(final_speed(tables)[key]), "%") for key in PAIR]
    rows.append(["test accuracy at the end", *ends])
    return table(["", *LABELS.values()], rows)


def _updates(found: pd.DataFrame) -> str:
    arrived = int(found["reached"].sum())
    if arrived < len(found):
        return f"reached in {arrived} of {len(found)} pairs"
    return with_interval(interval(found["update"]), "updates")
