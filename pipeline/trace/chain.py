"""The links from an answer back to the data, computed and printed."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import NamedTuple, NoReturn

import httpx
from rich.console import Console
from rich.markup import escape

from pipeline.trace.find import find
from pipeline.trace.run_checks import RUN_CHECKS
from pipeline.trace.subject import Check, GapError, Subject
from pipeline.tracking.registry import ADAPTED_FROM
from pipeline.tracking.store import open_store

MARKS = {"ok": "[green]✓", "unchecked": "[yellow]?", "missing": "[red]✗", "broken": "[red]✗"}


class Link(NamedTuple):
    """One link of the chain: ok, unchecked (its bytes are not here), missing or broken."""

    name: str
    state: str
    detail: str


def walk(subject: Subject, checks: dict[str, Check]) -> Iterator[Link]:
    """Yield the links from the first check to the data, as far as they lead."""
    adapted: dict[str, Check] = {}
    if subject.version and ADAPTED_FROM in subject.version.tags:
        adapted = {"adaptation": resolve_name("pipeline.trace.adaptation:check_adaptation")}
    for name, check in (checks | adapted | RUN_CHECKS).items():
        if name in RUN_CHECKS and subject.run is None:
            if subject != Subject():
                yield Link("run", "missing", "MLflow has no run that made it: the chain ends here")
            return
        try:
            yield Link(name, "ok", check(subject))
        except GapError as gap:
            yield Link(name, gap.state, str(gap))


def print_chain(what: str, request: Path | None, as_json: bool) -> NoReturn:
    """Print the chain that starts at WHAT, and exit with 1 if a link is broken or missing."""
    console = Console(highlight=False)  # unlike `print`, it lets its reader leave
    try:
        with open_store() as client:
            links = list(walk(*find(client, what, request)))
    except (OSError, ValueError, httpx.HTTPError) as error:
        if as_json:
            console.out(json.dumps({"whole": False, "error": str(error)}, indent=2))
        sys.exit(f"error: {error}")
    if as_json:
        whole = all(link.state == "ok" for link in links)
        found = [link._asdict() for link in links]
        console.out(json.dumps({"whole": whole, "links": found}, indent=2))
    else:
        show(links, console)
    sys.exit(any(link.state in ("missing", "broken") for link in links))


def show(links: list[Link], console: Console) -> None:
    """Print the chain for a person to read."""
    width = max(len(link.name) for link in links)
    for name, state, detail in links:
        prefix = "" if state == "ok" else f"{state}: "
        line = f"{MARKS[state]}[/] {name:<{width}}  {prefix}{escape(detail)}"
        console.print(line, soft_wrap=True)
    broken = [link.name for link in links if link.state in ("missing", "broken")]
    if broken:
        console.print(f"[red]the chain is not whole:[/] {', '.join(broken)}", soft_wrap=True)
        return
    unchecked = [f"the {name} ({why})" for name, state, why in links if state == "unchecked"]
    gaps = f" but for {', '.join(unchecked)}" if unchecked else ""
    console.print(f"the chain is whole{escape(gaps)}", soft_wrap=True)
