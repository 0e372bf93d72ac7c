"""Runs the command of a stage, and turns errors into messages for its user."""

import argparse
import sys
from pkgutil import resolve_name

from pipeline.core.files import check_disk, repro
from pipeline.core.inputs import check_inputs, inputs_at_start
from pipeline.core.params import load_params


def main(stage: str, function: str, doc: str | None) -> None:
    """Run `python -m pipeline.<stage>`, which takes no arguments; see `run_stage`."""
    argparse.ArgumentParser(prog=f"python -m pipeline.{stage}", description=doc).parse_args()
    run_stage(stage, function)


def run_stage(stage: str, function: str) -> None:
    """Run a DVC stage, and exit with a message if it raises a user's error.

    function: its body as "module:name", imported only once the stage's inputs have been read.
    """
    try:
        check_disk()
        load_params()  # an invalid parameter of any stage is found before the first one runs
        inputs_at_start(stage)
        resolve_name(function)()
        check_inputs(stage)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted: `{repro(stage)}` will run it again")
