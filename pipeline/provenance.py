"""Where a training or the study comes from: provenance.json, which DVC keeps with its products.

Taken before the first step, so that what is changed while it runs is no part of it.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.artifacts import ROOT, require, write_whole
from pipeline.data import PIN
from pipeline.params import Section


def take_provenance(params: Section) -> dict[str, Any]:
    """Return commit, whether the tree differs from it, parameters, data and time."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "commit": git("rev-parse", "HEAD"),
        "dirty": is_dirty(),
        "data_md5": PIN,
        "params": params.model_dump(),
    }


def write_provenance(path: Path, provenance: Mapping[str, Any]) -> None:
    """Write what `take_provenance` took, once what it is of is made."""
    write_whole(path, json.dumps(provenance, indent=2).encode())


def read_provenance(path: Path, stage: str) -> dict[str, Any]:
    """Return what `write_provenance` wrote."""
    return json.loads(require(path, stage).read_text())


def params_sha256(params: Mapping[str, Any]) -> str:
    """Return the SHA-256 of parameters by name; each value counts as text, as MLflow keeps it."""
    texts = {name: str(value) for name, value in params.items()}
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def lineage_tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return what ties a training's products to their origin, as they are tagged with it."""
    return {
        "params.sha256": params_sha256(provenance["params"]),
        "data.md5": provenance["data_md5"],
        "git.commit": provenance["commit"],
        "git.dirty": str(provenance["dirty"]).lower(),
    }


def is_dirty() -> bool:
    """Return whether the tree differs from its commit, but for dvc.lock, which follows the run.

    Asked of a fresh index: git's own goes by size and time, which a quick change may leave alike.
    """
    with TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        git("read-tree", "HEAD", **index)
        return bool(git("status", "--porcelain", "--", ":/", ":!dvc.lock", **index))


def git(*arguments: str, **environment: str) -> str:
    """Return what a git command prints in the project.

    Raises:
        ValueError: it failed; the message is git's.
    """
    command = ["git", *arguments]
    variables = os.environ | environment
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()
