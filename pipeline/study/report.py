"""Writes verdicts.json, figures/, report.md and report.html from the tables."""

from pipeline.core import files
from pipeline.core.params import StudyParams
from pipeline.core.png import to_png
from pipeline.study.claims import judge
from pipeline.study.figures import FIGURES
from pipeline.study.html import to_html
from pipeline.study.markdown import to_markdown
from pipeline.study.style import drawing
from pipeline.study.tables import read_tables


def write_report(params: StudyParams) -> str:
    """Write verdicts, figures and report; return the report in Markdown."""
    tables = read_tables()
    verdicts = judge(tables)
    files.write_json(files.VERDICTS, verdicts)
    with drawing():
        for name, draw in FIGURES.items():
            files.write_atomically(files.STUDY / "figures" / f"{name}.png", to_png(draw(tables)))
    text = to_markdown(tables, verdicts, params)
    files.write_atomically(files.STUDY / "report.md", text.encode())
    files.write_atomically(files.STUDY / "report.html", to_html(text).encode())
    return text
