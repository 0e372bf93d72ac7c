import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.core import files
from pipeline.core.stage import inputs_at_start, read_inputs, run_stage

FILES = {
    "dvc.yaml": """\
stages:
  fit:
    deps: [code, serve, artifacts/train]
    params: [fit, export]
""",
    "params.yaml": "fit: {epochs: 1}\nexport: {network: mlp}\nother: {seeds: 5}\n",
    ".dvcignore": "__pycache__/\n/serve/page/\n",
    "code/fit.py": "old",
    "code/deep/net.py": "old",
    "code/__pycache__/fit.pyc": "old",
    "serve/page/style.css": "old",
    "artifacts/train/weights": "old",
    "artifacts/study/tables": "old",
    "README.md": "old",
}
Run = Callable[[Callable[[], object]], None]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setattr("pipeline.core.params.load_params", lambda: None)
    inputs_at_start.cache_clear()
    return tmp_path


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the project's stage with this body."""

    def run(body: Callable[[], object]) -> None:
        monkeypatch.setitem(sys.modules, "body", SimpleNamespace(run=body))
        run_stage("fit", "body:run")

    return run


def test_inputs_are_the_files_and_sections_that_dvc_yaml_names(root: Path) -> None:
    assert set(read_inputs("fit")) == {
        "params.yaml: fit",
        "params.yaml: export",
        "code/fit.py",
        "code/deep/net.py",
        "artifacts/train/weights",
    }


def test_a_stage_with_unchanged_inputs_runs_once(run: Run) -> None:
    calls: list[str] = []
    run(lambda: calls.append("run"))
    assert calls == ["run"]


@pytest.mark.parametrize("name", ["code/fit.py", "code/deep/net.py", "artifacts/train/weights"])
def test_an_input_that_is_edited_added_or_deleted_meanwhile_is_named(
    run: Run, root: Path, name: str
) -> None:
    message = "changed while `fit` was running, .* run `dvc repro` again"
    with pytest.raises(SystemExit, match=f"error: {name} {message}"):
        run(lambda: (root / name).write_text("new"))
    with pytest.raises(SystemExit, match=f"error: {name} {message}"):
        run((root / name).unlink)
    with pytest.raises(SystemExit, match=f"error: {name} {message}"):
        run(lambda: (root / name).write_text("added"))


def test_an_input_that_is_edited_and_put_back_meanwhile_is_named(run: Run, root: Path) -> None:
    def edit_and_undo() -> None:
        (root / "code/fit.py").write_text("new")
        (root / "code/fit.py").write_text("old")

    with pytest.raises(SystemExit, match=r"error: code/fit\.py changed while `fit` was running"):
        run(edit_and_undo)


def test_an_invalid_parameter_ends_the_stage_before_its_body(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_params() -> None:
        raise ValueError("train.lr must be greater than 0, got -1.0")

    monkeypatch.setattr("pipeline.core.params.load_params", load_params)
    with pytest.raises(SystemExit, match=r"error: train\.lr must be greater than 0"):
        run(lambda: pytest.fail("the body was run"))


def test_every_changed_input_is_named(run: Run, root: Path) -> None:
    with pytest.raises(SystemExit, match=r"code/deep/net\.py, code/fit\.py changed"):
        run(lambda: shutil.rmtree(root / "code"))


@pytest.mark.parametrize(
    "name",
    ["code/__pycache__/fit.pyc", "serve/page/style.css", "artifacts/study/tables", "README.md"],
)
def test_a_file_that_is_ignored_or_no_dependency_may_change(
    run: Run, root: Path, name: str
) -> None:
    run(lambda: (root / name).write_text("new"))
    run((root / name).unlink)


def test_a_section_of_params_that_changes_meanwhile_is_named(run: Run, root: Path) -> None:
    changed = FILES["params.yaml"].replace("epochs: 1", "epochs: 2")
    with pytest.raises(SystemExit, match=r"error: params\.yaml: fit changed"):
        run(lambda: (root / "params.yaml").write_text(changed))


def test_a_section_that_is_no_dependency_may_change(run: Run, root: Path) -> None:
    changed = FILES["params.yaml"].replace("seeds: 5", "seeds: 6")
    run(lambda: (root / "params.yaml").write_text(changed))


def test_a_stage_may_be_in_the_pipeline_of_the_study(root: Path) -> None:
    (root / "study").mkdir()
    (root / "study/dvc.yaml").write_text("stages: {study: {deps: [code]}}")
    assert set(read_inputs("study")) == {"code/fit.py", "code/deep/net.py"}


def test_inputs_are_read_before_the_body_is_imported(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = root / "edits_when_imported.py"
    module.write_text(
        f"from pathlib import Path\nPath({str(root)!r}, 'code/fit.py').write_text('new')\n"
        "def run(): ..."
    )
    monkeypatch.syspath_prepend(root)
    with pytest.raises(SystemExit, match=r"code/fit\.py changed"):
        run_stage("fit", "edits_when_imported:run")


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, ConnectionError])
def test_a_users_error_ends_the_stage_with_its_message_alone(
    run: Run, error: type[Exception]
) -> None:
    def body() -> None:
        raise error("weights not found: run `dvc repro train`")

    with pytest.raises(SystemExit) as end:
        run(body)
    assert end.value.code == "error: weights not found: run `dvc repro train`"


def test_a_bug_keeps_its_traceback(run: Run) -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)
