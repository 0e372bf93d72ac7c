"""Writes what the study found: `python -m pipeline.study.report`.

Reads artifacts/study/tables; writes verdicts.json, figures/ and report.md beside them. Every
number in the report comes from those tables.
"""

import json
import sys
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts import KEYS, STUDY, VERDICTS, require, write_whole
from pipeline.params import StudyParams, load_params
from pipeline.study.claims import (
    CLAIMS,
    THRESHOLDS,
    Tables,
    final_speed,
    judge,
    learnt_by_heart,
    reached,
)
from pipeline.study.figures import FIGURES
from pipeline.study.overfitting import DROPOUTS, SHAPES
from pipeline.study.statistics import Interval, interval
from pipeline.study.style import LABELS, drawing, render

TABLES = ("speed", "rates", "scale", "activations", "histograms", "overfitting")
PROMISE = "a network with batch normalisation …"
TEXT = Path(__file__).with_name("template.md")  # with $names where numbers go


def table_path(name: str) -> Path:
    """Return where a table of measurements lies."""
    return STUDY / "tables" / f"{name}.csv"


def write_table(name: str, table: pd.DataFrame) -> None:
    """Write a table; its floats come back bit for bit."""
    write_whole(table_path(name), table.to_csv(index=False, lineterminator="\n").encode())


def read_tables() -> Tables:
    """Read every table of measurements.

    Raises:
        FileNotFoundError: the study has not run.
    """
    return {name: pd.read_csv(require(table_path(name), "study")) for name in TABLES}


def number(value: float) -> str:
    """Write a number with three digits or so, a whole one as it is."""
    digits = 0 if abs(value) >= 100 or float(value).is_integer() else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace("-", "−")


def with_interval(found: Interval, unit: str) -> str:
    """Write a mean, its unit and its interval, unless all seeds gave the same."""
    if found.low == found.high:
        return f"{number(found.mean)} {unit} in all {found.seeds} pairs"
    return f"{number(found.mean)} {unit} ({number(found.low)} to {number(found.high)})"


def verdict_table(verdicts: dict[str, dict[str, Any]], experiment: str) -> str:
    """Return the claims of one experiment as a Markdown table."""
    lines = [f"| {PROMISE} | verdict | without | with | difference (95 % interval) |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for claim in CLAIMS:
        if claim.experiment == experiment:
            found = verdicts[claim.key]
            difference = Interval(*(found[field] for field in Interval._fields))
            means = (number(found[which]) for which in ("without", "with"))
            cells = (
                claim.statement, f"**{found['verdict']}**", *means,
                with_interval(difference, claim.unit),
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(verdicts: dict[str, dict[str, Any]]) -> str:
    """Return the claims by verdict, with the means of both networks, as a Markdown list."""
    lines = []
    for verdict in ("holds", "does not hold", "cannot tell"):
        claims = [
            f"- {found['claim']} ({number(found['with'])} against {number(found['without'])})"
            for found in verdicts.values()
            if found["verdict"] == verdict
        ]
        if claims:
            lines += [f"**{verdict.capitalize()}:** {PROMISE}", "", *claims, ""]
    return "\n".join(lines).rstrip()


def overfitting_table(tables: Tables) -> str:
    """Return the test accuracies at the end of the small training set, as a Markdown table."""
    lines = ["| test accuracy | dropout | without batch norm | with batch norm |"]
    lines.append("| --- | --- | --- | --- |")
    for shape, title in SHAPES.items():
        accuracies = learnt_by_heart(tables, shape)["test_accuracy"]
        for dropout, word in zip(DROPOUTS, ("no", "yes"), strict=True):
            of_pairs = accuracies.xs(dropout, level="dropout")
            cells = [with_interval(interval(of_pairs[key]), "%") for key in KEYS]
            lines.append(f"| {title} | {word} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed_table(tables: Tables) -> str:
    """Return the updates to each test accuracy, without and with, as a Markdown table."""
    lines = [f"| | {' | '.join(LABELS[key] for key in KEYS)} |", "| --- | --- | --- |"]
    for threshold in THRESHOLDS:
        found = reached(tables["speed"], threshold).set_index("network")
        cells = [_updates(found.loc[key]) for key in KEYS]
        lines.append(f"| until {100 * threshold:.0f} % | {' | '.join(cells)} |")
    ends = [interval(final_speed(tables)[key]) for key in KEYS]
    cells = [with_interval(end, "%") for end in ends]
    lines.append(f"| test accuracy at the end | {' | '.join(cells)} |")
    return "\n".join(lines)


def _updates(found: pd.DataFrame) -> str:
    arrived = int(found["reached"].sum())
    if arrived < len(found):
        return f"reached in {arrived} of {len(found)} seeds"
    return with_interval(interval(found["update"]), "updates")


def write_curves(tables: Tables) -> None:
    """Write the means that `dvc plots` shows, one column a network."""
    scale = tables["scale"].assign(log10_scale=np.log10(tables["scale"]["scale"]))
    last = scale[scale["epoch"] == scale["epoch"].max()]
    for name, table, x, y in (
        ("speed_means", tables["speed"], "epoch", "test_accuracy"),
        ("scale_means", last, "log10_scale", "accuracy"),
    ):
        means = table.pivot_table(index=x, columns="network", values=y)
        write_table(name, means[list(KEYS)].reset_index())


def write_report(params: StudyParams) -> None:
    """Write verdicts, figures and report from the tables."""
    tables = read_tables()
    verdicts = judge(tables)
    write_whole(VERDICTS, json.dumps(verdicts, indent=2).encode())
    write_curves(tables)
    with drawing():
        for name, draw in FIGURES.items():
            for kind, content in render(draw(tables)).items():
                write_whole(STUDY / "figures" / f"{name}.{kind}", content)
    experiments = dict.fromkeys(claim.experiment for claim in CLAIMS)
    last = tables["rates"].iloc[-1]
    text = Template(TEXT.read_text()).substitute(
        {name: f"{value:,}" for name, value in params if name != "device"},
        updates=f"{last['update']:,.0f}",
        per_epoch=f"{last['update'] / last['epoch']:,.0f}",
        summary=summary(verdicts),
        speed_table=speed_table(tables),
        overfitting_table=overfitting_table(tables),
        **{f"{name}_verdicts": verdict_table(verdicts, name) for name in experiments},
    )
    write_whole(STUDY / "report.md", text.encode())


def main() -> None:
    """Write the report anew from the tables that are there."""
    try:
        write_report(load_params().study)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
