"""Starts a temporary Prefect server, which ends with this process."""

import atexit
import os
import secrets
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from pipeline.core import files

if TYPE_CHECKING:
    from fastapi import FastAPI

# Ends a command when its standard input closes, which also happens if this process is killed.
WATCHED = 'exec 3<&0 </dev/null; (read _ <&3; kill $$) & exec "$@"'


class PrefectServer:
    """A Prefect server on 127.0.0.1, which any page in a browser on this machine can reach."""

    def __init__(self) -> None:
        """Start the server, to end with this process."""
        print("starting Prefect's server ...", flush=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/api"
        self.auth_string = secrets.token_urlsafe()  # which its API requires
        self.process = subprocess.Popen(
            [
                *("sh", "-c", WATCHED, "sh", sys.executable, "-m", "uvicorn"),
                *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error"),
                *("--factory", "pipeline.core.prefect_server:create_app"),
            ],
            cwd=files.ROOT,
            env=os.environ  # which, unlike a command line, other users cannot read
            | {"PREFECT_SERVER_API_AUTH_STRING": self.auth_string}
            | {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}"},
            stdin=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the flow, which then says so to the server
        )
        atexit.register(self.stop)  # runs after Prefect's own, which send logs to the server

    def stop(self) -> None:
        """Stop the server; again does nothing."""
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def create_app() -> "FastAPI":
    """Return Prefect's API with the services alone that record a flow."""
    from prefect.server.api.server import create_app

    return create_app(ephemeral=True)
