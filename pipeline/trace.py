"""Walks from an answer back to the data: `python -m pipeline.trace WHAT`.

WHAT is a model file, the URL of a running server, a saved response, the id of an MLflow run,
`champion` or `challenger`. Each link is worked out anew where its bytes are at hand: in artifacts/
and data/ if the model is the one there, or else in MLflow. The exit status is 1 if a link is broken
or missing.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import httpx
from rich.console import Console
from rich.markup import escape

from pipeline import lineage, tracking
from pipeline.answer import check_response, check_server, served_version
from pipeline.chain import MODEL_CHECKS, RUN_CHECKS, Check, GapError
from pipeline.gate import CHALLENGER, CHAMPION
from pipeline.lineage import Subject

MARKS = {"ok": "[green]✓", "unchecked": "[yellow]?", "missing": "[red]✗", "broken": "[red]✗"}


class Link(NamedTuple):
    """One link of the chain: ok, unchecked (its bytes are not here), missing or broken."""

    name: str
    state: str
    detail: str


def find(client: Any, what: str, request: Path | None) -> tuple[Subject, dict[str, Check]]:
    """Return what is known of the model that WHAT is about, and the checks before the run's.

    Raises:
        ValueError: there is no such thing.
    """
    if what.startswith(("http://", "https://")):
        named = served_version(what)
        return answered(client, named, partial(check_server, what))
    if what in (CHAMPION, CHALLENGER):
        version = tracking.version_named(client, what)
        if not version:
            raise ValueError(f"there is no {what}: run `make repro`")
        return lineage.of_version(client, version), MODEL_CHECKS
    if Path(what).is_file():
        response = read_response(Path(what).read_bytes())
        if response:
            named = str(response["model_version"])
            return answered(client, named, partial(check_saved, response, request))
        return lineage.of_file(client, Path(what)), MODEL_CHECKS
    runs = tracking.find_runs(client, what) if re.fullmatch("[0-9a-f]{32}", what) else []
    if not runs:
        raise ValueError(
            f"WHAT must be a model file, a server's URL, a saved response, the id of a run or "
            f"'champion' or 'challenger', got {what!r}"
        )
    has_model = "model.sha256" in runs[0].data.tags
    return lineage.of_run(client, runs[0]), MODEL_CHECKS if has_model else {}


def answered(
    client: Any, named: str, check: Callable[[bytes], str]
) -> tuple[Subject, dict[str, Check]]:
    """Return what is known of the model that an answer names, and the checks from there on."""
    is_digest = re.fullmatch("[0-9a-f]{12,64}", named)
    subject = lineage.of_digest(client, named) if is_digest else lineage.NOTHING

    def check_answer(subject: Subject) -> str:
        if subject.model is None:
            raise GapError("broken", f"no model is known whose SHA-256 begins with {named!r}")
        try:
            return f"model_version {named}, and {check(subject.model)}"
        except GapError:
            raise
        except Exception as error:  # NumPy's and ONNX Runtime's too: anyone can have written it
            raise GapError("broken", f"model_version {named}, but {error}") from error

    return subject, {"answer": check_answer} | MODEL_CHECKS


def read_response(content: bytes) -> dict[str, Any] | None:
    """Return a saved response of the server, None if the bytes are something else."""
    try:
        response = json.loads(content)
    except ValueError:
        return None
    return response if isinstance(response, dict) and "model_version" in response else None


def check_saved(response: dict[str, Any], request: Path | None, model: bytes) -> str:
    """Say what a saved response is worth beside its request."""
    if request is None:
        raise GapError("unchecked", "say what was asked by --request FILE to have it checked")
    return check_response(response, json.loads(request.read_bytes()), model)


def walk(subject: Subject, checks: dict[str, Check]) -> Iterator[Link]:
    """Yield the links from the first check to the data, as far as they lead."""
    for name, check in (checks | RUN_CHECKS).items():
        if name in RUN_CHECKS and subject.run is None:
            yield Link("run", "missing", "MLflow has no run that made it: the chain ends here")
            return
        try:
            yield Link(name, "ok", check(subject))
        except GapError as gap:
            yield Link(name, gap.state, str(gap))
            if subject is lineage.NOTHING:
                return


def main() -> None:
    """Print the chain; the exit status is 1 if it is not whole."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.trace", description=__doc__)
    parser.add_argument("what", metavar="WHAT", help="where the walk begins")
    parser.add_argument("--request", type=Path, metavar="FILE", help="a saved response's request")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    try:
        client = tracking.open_store()
        links = list(walk(*find(client, arguments.what, arguments.request)))
    except tracking.STORE_ERRORS as error:
        give_up(f"MLflow at {tracking.shown_uri()} does not answer: {error}", arguments.json)
    except (OSError, ValueError, httpx.HTTPError) as error:
        give_up(str(error), arguments.json)
    whole = all(link.state in ("ok", "unchecked") for link in links)
    if arguments.json:
        print(json.dumps({"whole": whole, "links": [link._asdict() for link in links]}, indent=2))
    else:
        show(links, whole)
    sys.exit(not whole)


def give_up(message: str, as_json: bool) -> NoReturn:
    """End because the walk cannot begin."""
    if as_json:
        print(json.dumps({"whole": False, "error": message}, indent=2))
    sys.exit(f"error: {message}")


def show(links: list[Link], whole: bool) -> None:
    """Print the chain for a person to read."""
    console = Console(highlight=False)
    width = max(len(link.name) for link in links)
    for name, state, detail in links:
        word = "" if state == "ok" else f"{state}: "
        console.print(f"{MARKS[state]}[/] {name:<{width}}  {word}{escape(detail)}", soft_wrap=True)
    if whole:
        console.print("the chain is whole")
    else:
        gaps = ", ".join(link.name for link in links if link.state in ("missing", "broken"))
        console.print(f"[red]the chain is not whole:[/] {gaps}", soft_wrap=True)


if __name__ == "__main__":
    main()
