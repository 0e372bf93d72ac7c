import os
import subprocess
from pathlib import Path

import pytest

from pipeline.core import files
from pipeline.core.params import TrainParams
from pipeline.core.provenance import Provenance, git, is_dirty, params_sha256
from tests.support import write_below


@pytest.fixture
def provenance(train_params: TrainParams) -> Provenance:
    return Provenance.take("train", train_params, "0123.dir")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provenance: Provenance) -> Path:
    """A project with the folders of code that a training depends on, and one commit."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    for folder in (".", *provenance.code):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "code.py").write_text("a = 1")
        os.utime(tmp_path / folder / "code.py", (1, 1))
    (tmp_path / "params.yaml").write_text(f"train: {provenance.params}")
    (tmp_path / "dvc.yaml").write_text(
        f"stages: {{train: {{deps: [data, {', '.join(provenance.code)}]}}}}"
    )
    (tmp_path / "dvc.lock").touch()
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


def test_a_provenance_is_restored_from_its_file(
    provenance: Provenance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_below(tmp_path, monkeypatch)
    provenance.write()
    assert Provenance.read("train") == provenance


def test_a_provenance_is_frozen(provenance: Provenance) -> None:
    with pytest.raises(ValueError, match="frozen"):
        provenance.data_md5 = "4567.dir"


def test_content_tags_are_those_that_determine_the_result(
    provenance: Provenance, train_params: TrainParams
) -> None:
    digest = params_sha256(train_params.model_dump(exclude_unset=True))
    assert provenance.content_tags() == {"params.sha256": digest, "data.md5": "0123.dir"}


def test_the_digest_of_parameters_is_that_of_their_texts() -> None:
    assert params_sha256({"lr": 0.01, "epochs": 10}) == params_sha256(
        {"epochs": "10", "lr": "0.01"}
    )
    assert params_sha256({"lr": 0.01}) != params_sha256({"lr": 0.1})


@pytest.mark.parametrize("content", ["", "[]", '{"commit": "0123"}', '{"started": '])
def test_an_unreadable_file_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    write_below(tmp_path, monkeypatch)
    files.write_atomically(files.provenance_path("train"), content.encode())
    with pytest.raises(ValueError, match=r"provenance\.json is unreadable: run `dvc repro --force"):
        Provenance.read("train")


def test_a_missing_file_is_an_error_that_names_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_below(tmp_path, monkeypatch)
    with pytest.raises(FileNotFoundError, match=r"run `dvc repro study/dvc\.yaml`"):
        Provenance.read("study")


def test_the_trees_are_those_of_the_folders_that_dvc_yaml_names(
    repository: Path, train_params: TrainParams
) -> None:
    code = Provenance.take("train", train_params, "0123.dir").code
    assert set(code) == {"models", "pipeline/core", "pipeline/data", "pipeline/train"}
    assert code == {folder: git("rev-parse", f"HEAD:{folder}") for folder in code}


@pytest.mark.parametrize("name", ["README.md", "dvc.lock", "pipeline/export/fold.py"])
def test_a_commit_of_other_files_has_the_same_provenance(
    repository: Path, train_params: TrainParams, name: str
) -> None:
    before = Provenance.take("train", train_params, "0123.dir")
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("a = 2")
    git("add", ".")
    git("commit", "-q", "-m", name)
    assert Provenance.take("train", train_params, "0123.dir") == before
    assert before.is_at("HEAD")
    assert before.is_at("HEAD^")


def test_an_edit_that_keeps_size_and_time_is_another_tree(
    repository: Path, train_params: TrainParams
) -> None:
    (repository / "models/code.py").write_text("a = 2")
    os.utime(repository / "models/code.py", (1, 1))
    assert not git("status", "--porcelain")  # git's own index does not notice it
    edited = Provenance.take("train", train_params, "0123.dir")
    assert not edited.is_at("HEAD")
    git("add", ".")


def test_a_new_file_and_another_parameter_are_not_at_the_commit(
    repository: Path, train_params: TrainParams
) -> None:
    faster = train_params.model_copy(update={"lr": 0.1})
    assert not Provenance.take("train", faster, "0123.dir").is_at("HEAD")
    (repository / "models/new.py").touch()
    assert not Provenance.take("train", train_params, "0123.dir").is_at("HEAD")


def test_no_provenance_is_at_an_unknown_commit(provenance: Provenance) -> None:
    assert not provenance.is_at("0" * 40)


def test_a_new_file_is_dirty_and_another_dvc_lock_is_not(repository: Path) -> None:
    (repository / "dvc.lock").write_text("a = 2")
    assert not is_dirty()
    (repository / "new.py").touch()
    assert is_dirty()


def test_outside_a_repository_the_error_is_gits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"`git rev-parse HEAD` failed: fatal: not a git reposit"):
        git("rev-parse", "HEAD")
