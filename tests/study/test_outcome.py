from pathlib import Path

import pytest

from pipeline.core import files
from pipeline.study import outcome
from tests.support import write_below


@pytest.mark.parametrize("change", ["shape", "classes", "networks"])
def test_where_its_networks_do_not_fit_the_study_says_so_and_runs_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: str,
) -> None:
    write_below(tmp_path, monkeypatch)
    files.write_json(files.VERDICTS, {})  # of another data set
    if change == "shape":
        monkeypatch.setattr(outcome, "IMAGE_SHAPE", (3, 28, 28))
    elif change == "classes":
        monkeypatch.setattr(outcome, "CLASSES", 4)
    else:
        monkeypatch.setattr(outcome, "NETWORKS", {})
    outcome.run()
    assert "No study of MNIST: it compares simple_mlp and batchnorm_mlp" in capsys.readouterr().out
    assert [path.name for path in files.STUDY.iterdir()] == ["report.md"]
