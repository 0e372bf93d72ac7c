"""Starts an adaptation when the server's drift alarm has rung: once per alarm, and not too often.

`python -m pipeline.adapt URL --watch SECONDS` looks at intervals; the flow `watch` looks once, for
a schedule of Prefect's (see prefect.yaml). What was done is remembered in MLflow, so that several
watches, and one that is started again, adapt once.
"""

import os
import signal
import subprocess
import sys
import time

from prefect import State, flow
from prefect.states import Completed

from pipeline.adapt.traffic import empty_sample, last_alarm
from pipeline.core import files
from pipeline.core.params import load_params


def is_due(url: str) -> bool:
    """Return whether the served version has rung since the last adaptation began, which is at least
    `adapt.cooldown_s` ago and has not left a challenger to decide about."""
    alarm = last_alarm(url)
    if alarm is None:
        return False
    from pipeline.promote.gate import CHAMPION  # as MLflow, it takes seconds
    from pipeline.tracking.adaptations import last_adaptation, last_win, may_run
    from pipeline.tracking.registry import find_alias
    from pipeline.tracking.store import open_store

    with open_store() as client:
        last, win = last_adaptation(client), last_win(client)
        champion = find_alias(client, CHAMPION)
    if not last or not champion:
        return True
    if win and win.data.tags["champion"] == str(champion.version):
        return False  # the winner waits to be made champion, or was rolled back
    began = last.info.start_time / 1000
    return began < min(alarm, time.time() - load_params().adapt.cooldown_s) and not may_run(last)


def watch(url: str, seconds: float) -> None:
    """Adapt, in a process of its own, whenever it is due.

    A server or a store that is away is reported, and asked again; an adaptation that fails is tried
    again after `adapt.cooldown_s`.
    """
    print(f"watching {url}; Ctrl-C ends it", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or an adaptation would go on
    problem = ""
    while True:
        found = ""
        try:
            if is_due(url):
                command = [sys.executable, "-m", "pipeline.adapt", url, "--fresh"]
                if subprocess.run(command, cwd=files.ROOT).returncode:
                    pause_s = load_params().adapt.cooldown_s
                    print(f"looking again in {pause_s} s", file=sys.stderr, flush=True)
                    time.sleep(pause_s)
        except (OSError, ValueError) as error:
            found = str(error)
        if found and found != problem:
            print(f"error: {found}; looking again every {seconds} s", file=sys.stderr, flush=True)
        problem = found
        time.sleep(seconds)


@flow(name="watch")
def check() -> State:
    """Adapt to the requests of the server at SERVE_URL, if it is due."""
    url = os.environ.get("SERVE_URL")
    if not url:
        return Completed(message="SERVE_URL is not set, so there is no server to watch")
    if not is_due(url):
        return Completed(message=f"no new alarm at {url}, or too soon after the last adaptation")
    empty_sample(url)  # it fills while the flow is imported
    from pipeline.adapt.flow import adapt

    state: State = adapt(url, return_state=True)
    return state
