"""The page of `dvc plots`: it names no network, and is drawn offline."""

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect
from ruamel.yaml import YAML

from models import NETWORKS
from pipeline.core.files import ROOT

Plots = dict[str, dict[str, Any]]

NEW_NETWORKS = ["plain", "normalized", "another"]
CONFUSED = {("4", "9"): 7, ("9", "4"): 12}  # images by class and prediction
TEMPLATES = ROOT / ".dvc/plots"


@pytest.fixture(scope="module")
def plots() -> Plots:
    """The plots of dvc.yaml by name."""
    entries = YAML(typ="safe").load(ROOT / "dvc.yaml")["plots"]
    return {name: plot for entry in entries for name, plot in entry.items()}


def write_tables(folder: Path, plots: Plots) -> None:
    """Write each file of the plots: per network ten rows, in which all columns are equal, and the
    confused images."""
    fields: dict[str, set[str]] = defaultdict(set)
    for plot in plots.values():
        for path, y in plot["y"].items():
            fields[path] |= {plot["x"], y}
    for path, columns in fields.items():
        rows = [dict.fromkeys(sorted(columns), str(value)) for value in range(10)]
        if columns == {"label", "prediction"}:
            for (label, prediction), count in CONFUSED.items():
                rows += [{"label": label, "prediction": prediction}] * count
        table = pd.DataFrame([{"network": key, **row} for key in NEW_NETWORKS for row in rows])
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / path, index=False)


@pytest.fixture(scope="module")
def index(plots: Plots, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that `dvc plots show` writes for three new networks."""
    folder = tmp_path_factory.mktemp("plots")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    shutil.copytree(TEMPLATES, folder / ".dvc/plots")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
    YAML().dump({"plots": [{name: plot} for name, plot in plots.items()]}, folder / "dvc.yaml")
    write_tables(folder, plots)
    (folder / ".venv").mkdir()
    shutil.copy(Path(sys.prefix) / "vega.js", folder / ".venv")
    subprocess.run(["dvc", "plots", "show", "-q"], cwd=folder, check=True)
    return folder / "dvc_plots/index.html"


@pytest.fixture
def page(browser: Browser) -> Page:
    """An empty page without a network."""
    return browser.new_context(offline=True).new_page()


def line_colors() -> list[str]:
    """Return the colors of the template in the order in which networks get them."""
    template = json.loads((TEMPLATES / "networks.json").read_text())
    colors: list[str] = template["encoding"]["color"]["scale"]["range"]
    return colors


def test_the_lines_have_the_colors_of_the_table_of_networks() -> None:
    colors = [network.color for network in NETWORKS.values()]
    assert line_colors()[: len(colors)] == colors


@pytest.mark.parametrize(
    "path", [ROOT / "dvc.yaml", *TEMPLATES.iterdir()], ids=lambda path: path.name
)
def test_no_network_is_named(path: Path) -> None:
    assert [key for key in NETWORKS if key in path.read_text()] == []


@pytest.mark.browser
def test_the_page_is_drawn_offline_with_a_line_per_network(
    page: Page, index: Path, plots: Plots
) -> None:
    page.goto(index.as_uri())
    expect(page.locator("svg.marks")).to_have_count(len(plots))
    for name in [name for name, plot in plots.items() if plot["template"] == "networks"]:
        lines = page.locator(f"#{re.sub('[^a-z]', '_', name)} .mark-line path").all()
        strokes = [line.get_attribute("stroke") for line in lines]
        assert strokes == line_colors()[: len(NEW_NETWORKS)], name


@pytest.mark.browser
def test_the_confusion_matrix_shows_every_error_and_colors_only_errors(
    page: Page, index: Path
) -> None:
    page.goto(index.as_uri())
    matrix = page.locator("#confusion_matrix svg.marks")
    expect(matrix).to_be_visible()
    numbers = matrix.locator(".mark-text.role-mark text").all_text_contents()
    errors = [str(count) for count in CONFUSED.values()]
    assert sorted(numbers) == sorted((["1"] * 10 + errors) * len(NEW_NETWORKS))
    cells = matrix.locator(".mark-rect.role-mark path").all()
    white = [cell.get_attribute("fill") for cell in cells].count("rgb(255, 255, 255)")
    assert white == 10 * len(NEW_NETWORKS)


@pytest.mark.browser
def test_a_page_without_the_installed_scripts_loads_them_from_where_dvc_does(
    page: Page, index: Path, tmp_path: Path
) -> None:
    copy = shutil.copy(index, tmp_path)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(Path(copy).as_uri())
    assert any("vega-embed" in url for url in requests)
