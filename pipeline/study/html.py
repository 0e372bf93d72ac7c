"""Renders the report as one HTML file that holds its figures, for a browser and MLflow's UI."""

import base64
import re

from markdown_it import MarkdownIt

from pipeline.core import files

STYLE = """
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
img { max-width: 100%; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid #ccc; text-align: left; }
"""


def to_html(report: str) -> str:
    """Return the report in Markdown as a page."""
    body = MarkdownIt().enable("table").render(report)
    body = re.sub(r'src="(figures/\w+\.png)"', _embed, body)
    return f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{body}'


def _embed(source: re.Match[str]) -> str:
    png = base64.b64encode((files.STUDY / source[1]).read_bytes()).decode()
    return f'src="data:image/png;base64,{png}"'
