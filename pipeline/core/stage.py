"""Runs a stage, and fails it if its own inputs change while it runs.

DVC hashes dependencies after a stage's command has ended (treeverse/dvc#11058): without this check,
code edited while a stage runs would be recorded as what made the outputs, and would never run.
"""

import argparse
import sys
from functools import cache, reduce
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from pipeline.core import files
from pipeline.core.damage import explain


def main(stage: str, function: str, doc: str | None) -> None:
    """Run `python -m pipeline.<stage>`, which takes no arguments; see `run_stage`."""
    argparse.ArgumentParser(prog=f"python -m pipeline.{stage}", description=doc).parse_args()
    run_stage(stage, function)


def run_stage(stage: str, function: str, command: str = "", *arguments: object) -> None:
    """Run a DVC stage, and exit with a message if it raises a user's error.

    function: its body as "module:name", imported only once the stage's inputs have been read;
    command: what runs it again if it is interrupted, by default `dvc repro` with the stage;
    arguments: the function's.
    """
    from pipeline.core.params import load_params

    try:
        files.check_disk()
        load_params()  # an invalid parameter of any stage is found before the first one runs
        inputs_at_start(stage)
        resolve_name(function)(*arguments)
        check_inputs(stage)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {explain(error)}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted: `{command or files.repro(stage)}` will run it again")


def described(stage: str) -> Any:
    """Return the stage's description in dvc.yaml, of the main pipeline or of the study's own."""
    folder = files.ROOT / "study" if stage == "study" else files.ROOT
    return _load_yaml(folder / "dvc.yaml")["stages"][stage]


@cache
def inputs_at_start(stage: str) -> dict[str, str]:
    """Return what `read_inputs` returned at the first call in this process."""
    return read_inputs(stage)


def check_inputs(stage: str) -> None:
    """Check that the stage's inputs are those of its start.

    Raises:
        ValueError: they are not; the message names those that changed.
    """
    before, after = inputs_at_start(stage), read_inputs(stage)
    changed = sorted(name for name in before | after if before.get(name) != after.get(name))
    if changed:
        raise ValueError(
            f"{', '.join(changed)} changed while `{stage}` was running, so its outputs may "
            "come from either version: run `dvc repro` again"
        )


def read_inputs(stage: str) -> dict[str, str]:
    """Return the SHA-256 and the change time of each file that the stage depends on, so that an
    edit that is undone is noticed, and what it reads of params.yaml."""
    from pathspec import GitIgnoreSpec

    params, description = _load_yaml(files.ROOT / "params.yaml"), described(stage)
    ignored = GitIgnoreSpec.from_lines((files.ROOT / ".dvcignore").read_text().splitlines())
    names = description.get("params", [])  # "section" or "section.name"
    inputs = {
        f"params.yaml: {name}": str(reduce(dict.get, name.split("."), params)) for name in names
    }
    for dependency in description["deps"]:
        path = files.ROOT / dependency
        for file in [path] if path.is_file() else path.rglob("*"):
            name = str(file.relative_to(files.ROOT))
            if file.is_file() and not ignored.match_file(name):
                inputs[name] = f"{files.sha256(file)} {file.stat().st_ctime_ns}"
    return inputs


def _load_yaml(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(path)
    except YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: correct or restore it") from error
