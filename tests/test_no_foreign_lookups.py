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
    "serve": (["-m", "serve", "--port", "0", "--model", "MODEL"], "http://"),
    "serve with workers": (
        ["-m", "serve", "--port", "0", "--workers", "2", "--model", "MODEL"],
        "http://",
    ),
    "serve.deploy": (["-m", "serve.deploy", "FOLDER", "--model", "MODEL"], None),
}
OUTSIDE = re.compile(
    r"sin_port=htons\(53\)"  # a name server, even a local one, asks others
    r'|sin_addr=inet_addr\("(?!127\.|0\.0\.0\.0)'
    r'|inet_pton\(AF_INET6, "(?!::1"|::"|::ffff:127\.)'
)


@pytest.mark.drill
@pytest.mark.skipif(not STRACE, reason="needs strace: apt-get install strace")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_reaches_no_other_machine(name: str, model: Path, tmp_path: Path) -> None:
    words, ready = COMMANDS[name]
    places = {"MODEL": str(model), "FOLDER": str(tmp_path / "folder")}
    trace, home = tmp_path / "trace", tmp_path / "home"
    home.mkdir()
    process = subprocess.Popen(
        ["strace", "-f", "-qq", "-e", CALLS, "-o", str(trace), sys.executable]
        + [places.get(word, word) for word in words],
        cwd=ROOT,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        text=True,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout
        if ready:
            assert ready in process.stdout.readline()
            time.sleep(3)  # telemetry is sent by a thread of its own
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for child in children.split():
                os.kill(int(child), signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    found = [line for line in trace.read_text().splitlines() if OUTSIDE.search(line)]
    assert found == []
    assert [path.name for path in home.rglob("*") if "device" in path.name.lower()] == []
