"""Runs a command with one Prefect server for all its flows: `python -m pipeline.core.prefect_server
COMMAND …`. If PREFECT_API_URL names a server, that one is used."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
from prefect import get_client
from prefect.settings import PREFECT_API_URL

from pipeline.core import files

PID = "PIPELINE_PREFECT_SERVER_PID"  # of a server that this module started
START_S = 120  # the first start on a machine creates the database
# Ends a command when its standard input closes, which also happens if this process is killed.
WATCHED = 'exec 3<&0 </dev/null; (read _ <&3; kill $$) & exec "$@"'


def start_server() -> dict[str, str]:
    """Start a server that ends with this process, unless PREFECT_API_URL names one; return the
    environment variables that lead to it."""
    if address := PREFECT_API_URL.value():
        return {"PREFECT_API_URL": address, PID: os.environ.get(PID, "")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    server = subprocess.Popen(
        [
            *("sh", "-c", WATCHED, "sh", sys.executable, "-m", "uvicorn", "--host", "127.0.0.1"),
            *("--port", port, "--log-level", "error"),
            *("--factory", "prefect.server.api.server:create_app"),
        ],
        cwd=files.ROOT,
        stdin=subprocess.PIPE,
        process_group=0,  # Ctrl-C is for the flow, which then says so to the server
    )
    atexit.register(stop, server)  # runs after Prefect's own, which send logs to the server
    return {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", PID: str(server.pid)}


def stop(server: subprocess.Popen[bytes]) -> None:
    """End a server that this module started."""
    assert server.stdin
    server.stdin.close()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(pid: str) -> None:
    """Wait until the server answers; one that this module did not start must do so at once.

    Raises:
        httpx.HTTPError: it does not answer.
    """
    end = time.monotonic() + START_S
    with get_client(httpx_settings={"timeout": 5}, sync_client=True) as client:
        while problem := client.api_healthcheck():
            if not pid or not is_running(int(pid)) or time.monotonic() > end:
                raise problem
            time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Return whether a process is running."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Run the command; the exit status is the command's."""
    command = subprocess.Popen(sys.argv[1:], env=os.environ | start_server())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command
    sys.exit(command.wait())


if __name__ == "__main__":
    main()
