"""Writes the tables, verdicts, figures and report in artifacts/study/."""

import base64
import re
import shutil

from markdown_it import MarkdownIt
from matplotlib import rc_context

from pipeline.core import files
from pipeline.core.params import StudyParams
from pipeline.study.claims import judge
from pipeline.study.experiments import Tables, write_tables
from pipeline.study.figures import FIGURES
from pipeline.study.markdown import to_markdown
from pipeline.study.style import SETTINGS

STYLE = """
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
img { max-width: 100%; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid #ccc; text-align: left; }
"""


def write_report(tables: Tables, params: StudyParams) -> str:
    """Replace tables, verdicts, figures and report; return the report in Markdown."""
    shutil.rmtree(files.STUDY, ignore_errors=True)
    write_tables(tables)
    verdicts = judge(tables)
    files.write_json(files.VERDICTS, verdicts)
    with rc_context(SETTINGS):
        for name, draw in FIGURES.items():
            files.write_png(files.STUDY / "figures" / f"{name}.png", draw(tables))
    text = to_markdown(tables, verdicts, params)
    files.write_atomically(files.STUDY / "report.md", text.encode())
    files.write_atomically(files.STUDY / "report.html", to_html(text).encode())
    return text


def to_html(report: str) -> str:
    """Return the report in Markdown as one HTML file that holds its figures."""
    body = MarkdownIt().enable("table").render(report)

    def embed(source: re.Match[str]) -> str:
        png = base64.b64encode((files.STUDY / source[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{png}"'

    body = re.sub(r'src="(figures/\w+\.png)"', embed, body)
    return f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{body}'
