import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import image

from pipeline.artifacts import sha256
from pipeline.params import StudyParams
from pipeline.study import report
from pipeline.study.claims import CLAIMS, judge
from pipeline.study.figures import FIGURES
from pipeline.study.report import (
    number,
    read_tables,
    verdict_table,
    write_report,
    write_table,
)


@pytest.fixture(scope="module")
def study(
    study_tables: dict[str, pd.DataFrame],
    study_params: StudyParams,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """The folder of a study with its report."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "STUDY", folder)
        patch.setattr(report, "VERDICTS", folder / "verdicts.json")
        for name, table in study_tables.items():
            write_table(name, table)
        write_report(study_params)
        yield folder


def digests(study: Path) -> dict[Path, str]:
    return {path: sha256(path) for path in study.rglob("*") if path.is_file()}


def test_the_same_tables_are_the_same_bytes(study: Path, study_params: StudyParams) -> None:
    first = digests(study)
    write_report(study_params)
    assert digests(study) == first
    assert len(first) == 8 + 2 * len(FIGURES) + 2  # tables, figures, verdicts and report


def test_the_report_has_every_claim_and_every_figure(study: Path) -> None:
    text = (study / "report.md").read_text()
    verdicts = json.loads((study / "verdicts.json").read_text())
    figures = set(re.findall(r"\((figures/\w+\.png)\)", text))
    assert figures == {f"figures/{name}.png" for name in FIGURES}
    for claim in CLAIMS:
        found = verdicts[claim.key]
        assert text.count(f"\n- {claim.statement} (") == 1  # in the summary
        assert text.count(f"| {claim.statement} | **{found['verdict']}** |") == 1
        assert f"{number(found['mean'])} {claim.unit}" in text
    assert "$" not in text


def test_figures_are_as_large_as_slides(study: Path) -> None:
    for name in FIGURES:
        height, width, _ = image.imread(study / "figures" / f"{name}.png").shape
        assert width >= 1000
        assert height >= 500


def test_another_measurement_is_another_verdict(study: Path) -> None:
    table = pd.read_csv(study / "tables" / "speed.csv")
    for gained, expected in ((0.1, "holds"), (-0.1, "does not hold")):
        table["test_accuracy"] = 0.5 + gained * (table["network"] == "batchnorm_mlp")
        verdicts = judge(read_tables() | {"speed": table})
        row = next(
            line for line in verdict_table(verdicts, "speed").splitlines() if "end of" in line
        )
        assert f"| **{expected}** |" in row


def test_a_report_without_measurements_says_what_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "STUDY", tmp_path)
    with pytest.raises(SystemExit, match="run `dvc repro study`"):
        report.main()


@pytest.mark.parametrize(
    ("value", "text"),
    [(1768.8, "1,769"), (-11.76, "−11.8"), (0.018, "0.02"), (100.4, "100"), (4.0, "4")],
)
def test_numbers_have_about_three_digits(value: float, text: str) -> None:
    assert number(value) == text
