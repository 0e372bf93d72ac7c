"""The provenance of a training or of the study, which DVC stores with its outputs."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.core import files
from pipeline.core.params import Section

WRITTEN_BY_DVC = (":!/dvc.lock", ":!/metrics")  # what `dvc repro` changes in Git


class Provenance(BaseModel):
    """The commit, data and parameters of one training or study.

    commit: see `code_commit`; dirty: see `is_dirty`; data_md5: as data.dvc pins it.
    """

    model_config = ConfigDict(frozen=True)

    commit: str
    dirty: bool
    data_md5: str
    params: dict[str, Any]

    @classmethod
    def take(cls, params: Section, data_md5: str) -> "Provenance":
        """Return the provenance of a run that starts now."""
        return cls(
            commit=code_commit(),
            dirty=is_dirty(),
            data_md5=data_md5,
            params=params.model_dump(),
        )

    @classmethod
    def read(cls, path: Path, stage: str) -> "Provenance":
        """Return what `write` wrote.

        Raises:
            FileNotFoundError: the stage has not run.
            ValueError: the file does not hold a provenance.
        """
        content = files.require(path, stage).read_bytes()
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(f"{path} is unreadable: run `dvc repro --force {stage}`") from error

    def write(self, path: Path) -> None:
        """Write it as JSON; call this once everything else is written."""
        files.write_atomically(path, self.model_dump_json(indent=2).encode())

    def content_tags(self) -> dict[str, str]:
        """Return what determines the result: the tags that ONNX files and MLflow runs share."""
        return {"params.sha256": params_sha256(self.params), "data.md5": self.data_md5}

    def tags(self) -> dict[str, str]:
        """Return everything an MLflow run is tagged with."""
        code = {"git.commit": self.commit, "git.dirty": str(self.dirty).lower()}
        return self.content_tags() | code


def params_sha256(params: dict[str, Any]) -> str:
    """Return the SHA-256 of parameters by name, each as text, which is how MLflow keeps them."""
    texts = {name: str(value) for name, value in params.items()}
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def code_commit() -> str:
    """Return the last commit that changed more than `WRITTEN_BY_DVC`: committing the results of the
    same code does not make it another one."""
    return git("log", "-1", "--format=%H", "--", ":/", *WRITTEN_BY_DVC)


def is_dirty() -> bool:
    """Return whether the tree differs from its commit in more than `WRITTEN_BY_DVC`.

    A fresh index is used: git's own compares sizes and times, and a quick edit may keep both.
    """
    with TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        git("read-tree", "HEAD", **index)
        return bool(git("status", "--porcelain", "--", ":/", *WRITTEN_BY_DVC, **index))


def dvc_experiment() -> str | None:
    """Return the name of the DVC experiment in which this process runs, if it runs in one."""
    return os.environ.get("DVC_EXP_NAME")


def git(*arguments: str, **environment: str) -> str:
    """Return the output of a git command in the project.

    Raises:
        ValueError: it failed; the message is git's.
    """
    command = ["git", *arguments]
    variables = os.environ | environment
    done = subprocess.run(command, cwd=files.ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(
            f"`{' '.join(command)}` failed: {done.stderr.strip()}: every run records the commit of "
            "its code, so the project must be a Git repository with a commit: clone it, or run "
            "`git init && git add . && git commit -m start` in what you have downloaded"
        )
    return done.stdout.strip()
