"""Publishes the run that study/dvc.lock records: `python -m pipeline.study.publish`.

Reads artifacts/study/; writes docs/study.md, its figures in docs/study/, and the main verdicts in
README.md.
"""

import argparse
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.damage import explain
from pipeline.study.markdown import measured

REPORT = files.ROOT / "docs" / "study.md"
FIGURES = files.ROOT / "docs" / "study"
WIDTH, COLORS = 1000, 32  # of the figures there, which Git keeps
README = files.ROOT / "README.md"
START, END = "<!-- written by python -m pipeline.study.publish -->\n", "<!-- end -->\n"
# One per experiment that has claims.
MAIN_CLAIMS = (
    "updates_to_90",
    "learning_rates",
    "even_spread",
    "scales",
    "gap_five_0.1",
    "loss_brightness",
)


def is_locked() -> bool:
    """Return whether artifacts/study/ is the locked run, and nothing it comes from has changed."""
    status = [sys.executable, "-m", "dvc", "status", "--quiet", "study/dvc.yaml"]
    return subprocess.run(status, cwd=files.ROOT).returncode == 0


def pages() -> dict[Path, str]:
    """Return the report and the README, with the verdicts between its two comments."""
    report = files.require(files.STUDY / "report.md", "study").read_text()
    before, rest = README.read_text().split(START)
    _, after = rest.split(END)
    table = verdict_table(files.read_json(files.VERDICTS, "study"))
    return {
        REPORT: START + "\n" + report.replace("](figures/", f"]({FIGURES.name}/"),
        README: f"{before}{START}\n{table}\n{END}{after}",
    }


def verdict_table(verdicts: dict[str, dict[str, Any]]) -> str:
    """Return the main claims as a table in Markdown."""
    rows = [["a network with batch normalization …", "without", "with", "verdict"], ["---"] * 4]
    for key in MAIN_CLAIMS:
        found = verdicts[key]
        means = [measured(found[name], found["unit"]) for name in ("without", "with")]
        rows.append([found["claim"], *means, f"**{found['verdict']}**"])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def shrink(figure: Path) -> bytes:
    """Return a PNG of the same picture, with fewer pixels and colors."""
    from PIL import Image

    with Image.open(figure) as picture:
        size = (WIDTH, round(picture.height * WIDTH / picture.width))
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    few = small.quantize(COLORS, Image.Quantize.MAXCOVERAGE)  # which keeps rare, bright colors
    png = io.BytesIO()
    few.save(png, format="png", optimize=True)
    return png.getvalue()


def main() -> None:
    """Write the documents, unless the study must run first."""
    argparse.ArgumentParser(
        prog="python -m pipeline.study.publish", description=__doc__
    ).parse_args()
    if not is_locked():
        sys.exit("error: artifacts/study is not the run in study/dvc.lock: run `make study`")
    try:
        for path, text in pages().items():
            files.write_atomically(path, text.encode())
        figures = {figure.name: figure for figure in (files.STUDY / "figures").iterdir()}
        for name, figure in figures.items():
            files.write_atomically(FIGURES / name, shrink(figure))
        for path in FIGURES.iterdir():
            if path.name not in figures:
                path.unlink()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {explain(error)}")


if __name__ == "__main__":
    main()
