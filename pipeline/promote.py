"""Lets the certified model become the champion, or says why not: `python -m pipeline.promote`.

Reads the model, its certificate and the test images; records in MLflow what is missing there,
registers the model, judges it beside the champion and writes artifacts/promotion.json. The same
model is judged once. With --roll-back the champion before becomes the champion again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from pipeline.artifacts import (
    CERTIFICATE,
    MODEL,
    PROJECT,
    PROMOTION,
    ROOT,
    only_one,
    require,
    sha256,
    write_whole,
)
from pipeline.params import load_params


def what_is_judged() -> dict[str, Any]:
    """Return what the verdict rests on: model and certificate by SHA-256, and the parameters.

    Raises:
        FileNotFoundError: a stage before has not been run.
        ValueError: the certificate is another model's.
    """
    digest = sha256(require(MODEL, "export"))
    certificate = json.loads(require(CERTIFICATE, "certify").read_text())
    if certificate["model_sha256"] != digest:
        raise ValueError(f"{CERTIFICATE} is of another model: run `dvc repro certify`")
    return {
        "model.sha256": digest,
        "certificate.sha256": sha256(CERTIFICATE),
        "params": load_params().promote.model_dump(),
    }


@contextmanager
def prefect_flow(due: bool) -> Iterator[Callable[[str], object]]:
    """Yield what shows a report in Prefect, whose flow starts at once if a report is due.

    It takes seconds to start, as MLflow does to be imported. MLflow has the report too: if Prefect
    fails, the promotion does not.
    """
    command = [sys.executable, "-m", "pipeline.flow", "promote"]
    start = partial(subprocess.Popen, command, cwd=ROOT, stdin=subprocess.PIPE, text=True)
    if due:
        with start() as flow:
            yield flow.communicate
    else:
        yield lambda report: start().communicate(report)


def promote() -> None:
    """Promote the model in artifacts/ unless that is done, and say how it was judged."""
    judged = what_is_judged()
    done = json.loads(PROMOTION.read_text()) if PROMOTION.is_file() else {}
    with prefect_flow(due=done.get("judged") != judged) as show:
        from pipeline import promotion

        done, champion = promotion.promote(judged, done, show)
    write_whole(PROMOTION, json.dumps(done, indent=2).encode())
    print("version {version} was judged {alias}: {reason}".format(**done))
    print(f"the champion is version {champion}")


def main() -> None:
    """Promote the model in artifacts/, or roll the last promotion back."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.promote", description=__doc__)
    parser.add_argument("--roll-back", action="store_true", help="undo the last promotion")
    arguments = parser.parse_args()
    try:
        with only_one(PROJECT / ".dvc" / "tmp" / "promote.lock"):
            if arguments.roll_back:
                from pipeline import promotion

                print(promotion.roll_back())
            else:
                promote()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
