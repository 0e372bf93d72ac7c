"""Writes verdicts.json, figures/, report.md and report.html from the tables: `python -m
pipeline.study.report`.

Every number in the report comes from the tables.
"""

import argparse
import sys
from pathlib import Path
from string import Template

import numpy as np

from pipeline.core import files
from pipeline.core.params import StudyParams, load_params
from pipeline.core.png import to_png
from pipeline.study.claims import CLAIMS, judge
from pipeline.study.figures import FIGURES
from pipeline.study.html import to_html
from pipeline.study.markdown import overfitting_table, speed_table, summary, verdict_table
from pipeline.study.overfitting import LRS
from pipeline.study.pair import PAIR
from pipeline.study.scale import updates
from pipeline.study.style import drawing
from pipeline.study.tables import Tables, read_tables, write_table

TEXT = Path(__file__).with_name("template.md")  # with $names where numbers go


def write_curves(tables: Tables) -> None:
    """Write the means that `dvc plots` shows, one column per network."""
    scale = tables["scale"].assign(log10_scale=np.log10(tables["scale"]["scale"]))
    last = scale[scale["epoch"] == scale["epoch"].max()]
    for name, table, x, y in (
        ("speed_means", tables["speed"], "epoch", "test_accuracy"),
        ("scale_means", last, "log10_scale", "accuracy"),
    ):
        means = table.pivot_table(index=x, columns="network", values=y)
        write_table(name, means[list(PAIR)].reset_index())


def write_report(params: StudyParams) -> str:
    """Write verdicts, figures and report; return the report in Markdown."""
    tables = read_tables()
    verdicts = judge(tables)
    files.write_json(files.VERDICTS, verdicts)
    write_curves(tables)
    with drawing():
        for name, draw in FIGURES.items():
            files.write_atomically(files.STUDY / "figures" / f"{name}.png", to_png(draw(tables)))
    experiments = dict.fromkeys(claim.experiment for claim in CLAIMS)
    last = tables["rates"].iloc[-1]
    text = Template(TEXT.read_text()).substitute(
        {name: f"{value:,}" for name, value in params if name != "device"},
        updates=f"{last['update']:,.0f}",
        per_epoch=f"{last['update'] / last['epoch']:,.0f}",
        scale_updates=f"{updates(params.scale_epochs):,}",
        overfitting_lrs=", ".join(f"{lr:g}" for lr in LRS),
        summary=summary(verdicts),
        speed_table=speed_table(tables),
        overfitting_table=overfitting_table(tables),
        **{f"{name}_verdicts": verdict_table(verdicts, name) for name in experiments},
    )
    files.write_atomically(files.STUDY / "report.md", text.encode())
    files.write_atomically(files.STUDY / "report.html", to_html(text).encode())
    return text


def main() -> None:
    """Write the report again from the tables."""
    argparse.ArgumentParser(
        prog="python -m pipeline.study.report", description=__doc__
    ).parse_args()
    try:
        write_report(load_params().study)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
