import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import image

from pipeline.core import files
from pipeline.core.params import StudyParams
from pipeline.study.claims import CLAIMS, judge
from pipeline.study.experiments import Tables
from pipeline.study.figures import FIGURES
from pipeline.study.markdown import measured, number, to_markdown
from pipeline.study.pair import NORMED
from pipeline.study.report import write_report
from tests.support import read_tables


@pytest.fixture(scope="module")
def study(
    study_tables: Tables,
    study_params: StudyParams,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """The folder of a study with its report."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "STUDY", folder)
        patch.setattr(files, "VERDICTS", folder / "verdicts.json")
        write_report(study_tables, study_params)
        yield folder


def digests(study: Path) -> dict[Path, str]:
    written = [path for path in study.rglob("*") if path.is_file()]
    return {path.relative_to(study): files.sha256(path) for path in written}


WRITE_AGAIN = """
import sys
from pathlib import Path

import models

models.NETWORKS["stranger"] = models.Network("tests.support:Stranger", "Stranger", "#009E73", "^")

from pipeline.core import files
from pipeline.core.params import StudyParams
from pipeline.study.report import write_report
from tests.support import read_tables

files.STUDY = Path(sys.argv[1])
files.VERDICTS = files.STUDY / "verdicts.json"
write_report(read_tables(Path(sys.argv[2])), StudyParams.model_validate_json(sys.argv[3]))
"""


@pytest.mark.slow
def test_the_same_tables_give_the_same_bytes_even_with_a_third_network_in_models(
    study: Path, study_params: StudyParams, tmp_path: Path
) -> None:
    first = digests(study)
    assert len(first) == 8 + len(FIGURES) + 3  # tables, figures, verdicts and two reports
    folders, params = (str(tmp_path), str(study)), study_params.model_dump_json()
    command = [sys.executable, "-c", WRITE_AGAIN, *folders, params]
    subprocess.run(command, cwd=files.ROOT, check=True)
    assert digests(tmp_path) == first


def test_the_report_has_every_claim_and_every_figure(study: Path) -> None:
    text = (study / "report.md").read_text()
    verdicts = json.loads((study / "verdicts.json").read_text())
    figures = set(re.findall(r"\((figures/\w+\.png)\)", text))
    assert figures == {f"figures/{name}.png" for name in FIGURES}
    for claim in CLAIMS:
        found = verdicts[claim.key]
        assert text.count(f"\n- {claim.statement}: ") == 1  # in the summary
        assert text.count(f"| {claim.statement} | **{found['verdict']}** |") == 1
    assert not re.search(r"[{}]", text)


def test_the_summary_gives_both_means_with_their_units(study: Path) -> None:
    verdicts = json.loads((study / "verdicts.json").read_text())
    lines = (study / "report.md").read_text().splitlines()
    for claim in CLAIMS:
        found = verdicts[claim.key]
        (line,) = (line for line in lines if line.startswith(f"- {claim.statement}: "))
        assert line.endswith(f" vs. {measured(found['without'], claim.unit)}")
        assert f": {number(found['with'])}" in line


def test_the_report_names_all_three_learning_rates(study: Path) -> None:
    text = (study / "report.md").read_text()
    _, section = text.split("## Does it reduce overfitting?")
    assert "rates (0.01, 0.03, 0.1)" in section
    for shape in ("two", "five"):
        for lr in ("0.01", "0.03", "0.1"):
            assert section.count(f"({shape} hidden layers, learning rate {lr})") == 2
            assert section.count(f"| {shape} hidden layers | {lr} | ") == 2  # dropout or not


def test_figures_are_as_large_as_slides(study: Path) -> None:
    for name in FIGURES:
        height, width, _ = image.imread(study / "figures" / f"{name}.png").shape
        assert width >= 1000
        assert height >= 500


def test_another_measurement_is_another_verdict(study: Path, study_params: StudyParams) -> None:
    table = pd.read_csv(study / "tables" / "speed.csv")
    for gained, expected in ((0.1, "holds"), (-0.1, "does not hold")):
        table["test_accuracy"] = 0.5 + gained * (table["network"] == NORMED)
        tables = read_tables(study) | {"speed": table}
        text = to_markdown(tables, judge(tables), study_params)
        assert f"| has a higher test accuracy at the end of training | **{expected}** |" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1768.8, "1,769"), (-11.76, "−11.8"), (0.018, "0.02"), (100.4, "100"), (4.0, "4")],
)
def test_numbers_have_about_three_digits(value: float, text: str) -> None:
    assert number(value) == text
