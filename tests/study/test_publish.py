import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from pipeline.core import files
from pipeline.study import publish
from pipeline.study.claims import CLAIMS
from pipeline.study.figures import FIGURES

VERDICT = {
    "claim": "learns",
    "verdict": "holds",
    "without": 2063.6,
    "with": 294.8,
    "unit": "updates",
}


def test_every_experiment_has_one_claim_in_the_readme() -> None:
    experiments = {claim.key: claim.experiment for claim in CLAIMS}
    found = [experiments[key] for key in publish.MAIN_CLAIMS]
    assert found == [*dict.fromkeys(claim.experiment for claim in CLAIMS)]


def test_a_verdict_is_a_row_of_the_readme() -> None:
    table = publish.verdict_table(dict.fromkeys(publish.MAIN_CLAIMS, VERDICT))
    assert table.splitlines()[2] == "| learns | 2,064 updates | 295 updates | **holds** |"
    assert len(table.splitlines()) == 2 + len(publish.MAIN_CLAIMS)


def test_what_is_committed_is_what_the_command_writes_from_the_locked_run() -> None:
    lock = ["git", "diff", "--quiet", "HEAD", "--", "study/dvc.lock"]
    if subprocess.run(lock, cwd=files.ROOT).returncode or not publish.is_locked():
        pytest.skip("the run of the committed study/dvc.lock is not in artifacts/study")
    for path, text in publish.pages().items():
        assert path.read_text() == text, f"{path}: run `python -m pipeline.study.publish`"


def test_the_readme_agrees_with_the_report() -> None:
    report = publish.REPORT.read_text()
    _, table = publish.README.read_text().split(publish.START)
    rows = table.split(publish.END)[0].strip().splitlines()[2:]
    assert len(rows) == len(publish.MAIN_CLAIMS)
    for row in rows:
        claim, without, normed, verdict = row.strip("| ").split(" | ")
        assert f"| {claim} | {verdict} | {without} | {normed} | " in report


def test_every_figure_of_the_report_is_there_and_small() -> None:
    names = re.findall(r"\]\(study/(\w+\.png)\)", publish.REPORT.read_text())
    paths = [publish.FIGURES / name for name in names]
    assert sorted(names) == sorted(f"{name}.png" for name in FIGURES)
    assert sorted(publish.FIGURES.iterdir()) == sorted(paths)
    assert max(path.stat().st_size for path in paths) < 60_000


def test_a_run_that_is_not_locked_is_not_published(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(publish, "is_locked", lambda: False)
    monkeypatch.setattr(publish, "pages", lambda: {tmp_path / "study.md": "text"})
    monkeypatch.setattr("sys.argv", ["publish"])
    with pytest.raises(SystemExit, match="run `make study`"):
        publish.main()
    assert not list(tmp_path.iterdir())


def test_old_figures_are_deleted_only_once_all_new_ones_are_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    new, old = tmp_path / "figures" / "new.png", tmp_path / "docs" / "old.png"
    for path in (new, old):
        path.parent.mkdir()
        path.write_bytes(b"no PNG")
    monkeypatch.setattr(files, "STUDY", tmp_path)
    monkeypatch.setattr(publish, "FIGURES", old.parent)
    monkeypatch.setattr(publish, "is_locked", lambda: True)
    monkeypatch.setattr(publish, "pages", dict)
    monkeypatch.setattr("sys.argv", ["publish"])
    with pytest.raises(SystemExit, match="cannot identify image"):
        publish.main()
    assert old.exists()
    Image.new("RGB", (10, 10)).save(new)
    publish.main()
    assert [path.name for path in old.parent.iterdir()] == ["new.png"]
