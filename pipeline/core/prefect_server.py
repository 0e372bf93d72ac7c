"""Starts a temporary Prefect server, which ends with this process."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time

from prefect import get_client

from pipeline.core import files

START_S = 120  # the first start on a machine creates the database
# Ends a command when its standard input closes, which also happens if this process is killed.
WATCHED = 'exec 3<&0 </dev/null; (read _ <&3; kill $$) & exec "$@"'


class PrefectServer:
    """A Prefect server on 127.0.0.1.

    address: of its API; process: the one that runs it.
    """

    def __init__(self) -> None:
        """Start the server, to end with this process."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/api"
        self.process = subprocess.Popen(
            [
                *("sh", "-c", WATCHED, "sh", sys.executable, "-m", "uvicorn"),
                *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error"),
                *("--factory", "prefect.server.api.server:create_app"),
            ],
            cwd=files.ROOT,
            stdin=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the flow, which then says so to the server
        )
        atexit.register(self._stop)  # runs after Prefect's own, which send logs to the server

    def _stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def wait_for_api(server: PrefectServer | None) -> None:
    """Wait until Prefect's API answers; one that we did not start must do so at once.

    Raises:
        httpx.HTTPError: it does not answer.
    """
    end = time.monotonic() + START_S
    with get_client(httpx_settings={"timeout": 5}, sync_client=True) as client:
        while problem := client.api_healthcheck():
            if not server or server.process.poll() is not None or time.monotonic() > end:
                raise problem
            time.sleep(0.1)
