"""Our commands tell nobody that they run: traced by strace, they reach this machine only."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.core.files import ROOT

STRACE = shutil.which("strace")
CALLS = "trace=connect,sendto,sendmsg,sendmmsg"
# What a command is given, and what it prints when it may be stopped; None if it ends by itself.
COMMANDS: dict[str, tuple[list[str], str | None]] = {
    "serve": (["-m", "serve", "--port", "0", "--workers", "2", "--model", "MODEL"], "http://"),
    "serve.deploy": (["-m", "serve.deploy", "FOLDER", "--model", "MODEL"], None),
}
OUTSIDE = re.compile(
    r"sin_port=htons\(53\)"  # a name server, even a local one, asks others
    r'|sin_addr=inet_addr\("(?!127\.|0\.0\.0\.0)'
    r'|inet_pton\(AF_INET6, "(?!::1"|::"|::ffff:127\.)'
)


needs_strace = pytest.mark.skipif(not STRACE, reason="needs strace: apt-get install strace")


def calls_outside(words: list[str], ready: str | None, cwd: Path, folder: Path) -> list[str]:
    """Run Python with these words and an empty HOME; return its calls that leave the machine."""
    trace, home = folder / "trace", folder / "home"
    home.mkdir()
    command = [sys.executable, *words]
    process = subprocess.Popen(
        ["strace", "--seccomp-bpf", "-f", "-qq", "-e", CALLS, "-o", str(trace), *command],
        cwd=cwd,
        env={"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        text=True,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        if ready:
            assert process.stdout
            assert ready in process.stdout.readline()
            time.sleep(6)  # telemetry is sent by a thread of its own
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for child in children.split():
                os.kill(int(child), signal.SIGTERM)
        output, _ = process.communicate()
        assert process.returncode == 0, output
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert [path.name for path in home.rglob("*") if "device" in path.name.lower()] == []
    return [line for line in trace.read_text().splitlines() if OUTSIDE.search(line)]


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_of_the_server_reaches_no_other_machine(
    name: str, model: Path, tmp_path: Path
) -> None:
    words, ready = COMMANDS[name]
    places = {"MODEL": str(model), "FOLDER": str(tmp_path / "folder")}
    words = [places.get(word, word) for word in words]
    assert calls_outside(words, ready, ROOT, tmp_path) == []


@pytest.mark.slow
@needs_strace
def test_the_stages_reach_no_other_machine(new_project: Path, tmp_path: Path) -> None:
    assert calls_outside(["-m", "dvc", "repro"], None, new_project, tmp_path) == []
