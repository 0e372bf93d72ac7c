"""The provenance of a training or of the study: all that determines its results, and nothing else.

It is part of what DVC hashes, so it holds no commit: the same content is the same provenance at any
commit.
"""

import hashlib
import json
import os
import subprocess
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML

from pipeline.core import files
from pipeline.core.params import Section, load_params
from pipeline.core.stage import described


class Provenance(BaseModel):
    """What a stage's results come from: artifacts/<stage>/provenance.json.

    data_md5: the data set, as data.dvc pins it; params: the stage's section of params.yaml; code:
    the Git tree of each folder of code that the stage depends on.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    data_md5: str
    params: dict[str, Any]
    code: dict[str, str]

    @classmethod
    def take(cls, stage: str, params: Section, data_md5: str) -> "Provenance":
        """Return the provenance of a stage that starts now."""
        others = ("data", "metrics")
        code = trees_of([path for path in described(stage)["deps"] if not path.startswith(others)])
        return cls(
            stage=stage, data_md5=data_md5, params=params.model_dump(exclude_unset=True), code=code
        )

    @classmethod
    def read(cls, stage: str) -> "Provenance":
        """Return what `write` wrote.

        Raises:
            FileNotFoundError: the stage has not run.
            ValueError: the file does not hold a provenance.
        """
        path = files.provenance_path(stage)
        content = files.require(path, stage).read_bytes()
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise files.unreadable(path, stage) from error

    def write(self) -> None:
        """Write it as JSON; call this once everything else is written."""
        content = self.model_dump_json(indent=2).encode()
        files.write_atomically(files.provenance_path(self.stage), content)

    def content_tags(self) -> dict[str, str]:
        """Return the tags that ONNX files and MLflow runs share."""
        return {"params.sha256": params_sha256(self.params), "data.md5": self.data_md5}

    def is_at(self, commit: str) -> bool:
        """Return whether a commit has this code and these parameters."""
        try:
            trees = git("rev-parse", *(f"{commit}:{folder}" for folder in self.code))
            params = YAML(typ="safe").load(git("show", f"{commit}:params.yaml"))
            section = type(getattr(load_params(), self.stage)).model_validate(params[self.stage])
        except ValueError:
            return False
        same = section.model_dump(exclude_unset=True) == self.params
        return same and trees.split() == [*self.code.values()]


def params_sha256(params: dict[str, Any]) -> str:
    """Return the SHA-256 of parameters by name, each as text, which is how MLflow keeps them."""
    texts = {name: str(value) for name, value in params.items()}
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def trees_of(folders: list[str]) -> dict[str, str]:
    """Return the Git tree of each folder as it is now, whether committed or not.

    A fresh index is used: git's own compares sizes and times, and a quick edit may keep both.
    """
    with TemporaryDirectory() as temporary:
        index = {"GIT_INDEX_FILE": f"{temporary}/index"}
        git("read-tree", "HEAD", **index)
        git("add", "--all", "--", *folders, **index)
        return {folder: git("write-tree", f"--prefix={folder}/", **index) for folder in folders}


def is_dirty() -> bool:
    """Return whether the tree differs from HEAD in more than what `dvc repro` writes."""
    return bool(git("status", "--porcelain", "--", ":/", ":!/*dvc.lock", ":!/metrics"))


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
