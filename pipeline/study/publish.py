"""Publishes the run of the study that study/dvc.lock records: `python -m pipeline.study.publish`.

Reads artifacts/study/; writes docs/study.md, its figures in docs/study/, and the verdicts in
README.md.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.damage import explain

REPORT = files.ROOT / "docs" / "study.md"
FIGURES = files.ROOT / "docs" / "study"
README = files.ROOT / "README.md"
START, END = "<!-- python -m pipeline.study.publish -->\n", "<!-- end -->\n"
# One claim per experiment.
MAIN_CLAIMS = (
    "updates_to_90",
    "learning_rates",
    "even_spread",
    "scales",
    "gap_five_0.1",
    "loss_brightness",
    "photometric_repaired",
)


def is_locked() -> bool:
    """Return whether artifacts/study/ is what study/dvc.lock records, and nothing that the study
    depends on has changed since."""
    return not subprocess.run(["dvc", "status", "--quiet", "study/dvc.yaml"], cwd=files.ROOT).returncode


def pages() -> dict[Path, str]:
    """Return the text of each document."""
    report = files.require(files.STUDY / "report.md", "study").read_text()
    verdicts = files.read_json(files.VERDICTS, "study")
    before, rest = README.read_text().split(START)
    _, after = rest.split(END)
    return {
        REPORT: START + report.replace("](figures/", f"]({FIGURES.name}/"),
        README: before + START + verdict_table(verdicts) + END + after,
    }


def verdict_table(verdicts: dict[str, dict[str, Any]]) -> str:
    """Return the main claims as a table in Markdown."""
    from pipeline.study.markdown import measured

    lines = ["| a network with batch normalization … | without | with | |", "| --- | --- | --- | --- |"]
    for key in MAIN_CLAIMS:
        found = verdicts[key]
        means = (measured(found[name], found["unit"]) for name in ("without", "with"))
        lines.append(f"| {' | '.join((found['claim'], *means, found['verdict']))} |")
    return "\n".join(lines) + "\n"


def small_figures() -> dict[Path, bytes]: ...


def main() -> None:
    """Write the documents, unless the study must run first."""
    argparse.ArgumentParser(prog="python -m pipeline.study.publish", description=__doc__).parse_args()


if __name__ == "__main__":
    main()
