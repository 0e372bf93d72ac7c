import os
import subprocess
from pathlib import Path

import pytest

from pipeline.core import files
from pipeline.core.params import TrainParams
from pipeline.core.provenance import Provenance, code_commit, git, is_dirty, params_sha256


@pytest.fixture
def provenance(train_params: TrainParams) -> Provenance:
    return Provenance.take(train_params, "0123.dir")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one commit."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("a = 1")
        os.utime(tmp_path / name, (1, 1))
    for command in (
        "git init -q",
        "git config user.name tests",
        "git config user.email tests@example.invalid",
        "git config core.trustctime false",
        "git add .",
        "git commit -q -m project",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    return tmp_path


def test_a_provenance_is_restored_from_its_file(provenance: Provenance, tmp_path: Path) -> None:
    provenance.write(tmp_path / "provenance.json")
    assert Provenance.read(tmp_path / "provenance.json", "train") == provenance


def test_a_provenance_is_frozen(provenance: Provenance) -> None:
    with pytest.raises(ValueError, match="frozen"):
        provenance.dirty = False


def test_content_tags_are_those_that_determine_the_result(
    provenance: Provenance, train_params: TrainParams
) -> None:
    expected = {"params.sha256": params_sha256(train_params.model_dump()), "data.md5": "0123.dir"}
    assert provenance.content_tags() == expected


def test_tags_add_the_commit(provenance: Provenance) -> None:
    clean = provenance.model_copy(update={"dirty": False})
    code = {"git.commit": code_commit(), "git.dirty": "false"}
    assert clean.tags() == provenance.content_tags() | code


def test_the_digest_of_parameters_is_that_of_their_texts() -> None:
    assert params_sha256({"lr": 0.01, "epochs": 10}) == params_sha256(
        {"epochs": "10", "lr": "0.01"}
    )
    assert params_sha256({"lr": 0.01}) != params_sha256({"lr": 0.1})


@pytest.mark.parametrize("content", ["", "[]", '{"commit": "0123"}', '{"started": '])
def test_an_unreadable_file_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "provenance.json").write_text(content)
    with pytest.raises(ValueError, match=r"provenance\.json is unreadable: run `dvc repro --force"):
        Provenance.read(tmp_path / "provenance.json", "train")


def test_a_missing_file_is_an_error_that_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run `dvc repro study`"):
        Provenance.read(tmp_path / "provenance.json", "study")


def test_an_edit_that_keeps_size_and_time_is_dirty(repository: Path) -> None:
    assert not is_dirty()
    (repository / "code.py").write_text("a = 2")
    os.utime(repository / "code.py", (1, 1))
    assert not git("status", "--porcelain")  # git's own index does not notice it
    assert is_dirty()


def test_a_new_file_is_dirty_and_another_dvc_lock_is_not(repository: Path) -> None:
    (repository / "dvc.lock").write_text("a = 2")
    assert not is_dirty()
    (repository / "new.py").touch()
    assert is_dirty()


def test_committing_what_dvc_writes_does_not_change_the_codes_commit(repository: Path) -> None:
    def commit(name: str) -> str:
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text("a = 2")
        git("add", ".")
        git("commit", "-q", "-m", name)
        return code_commit()

    first = git("rev-parse", "HEAD")
    assert code_commit() == first
    assert commit("dvc.lock") == first
    assert commit("metrics/test_accuracy.json") == first
    assert commit("code.py") == git("rev-parse", "HEAD") != first


def test_outside_a_repository_the_error_is_gits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"`git rev-parse HEAD` failed: fatal: not a git reposit"):
        git("rev-parse", "HEAD")
