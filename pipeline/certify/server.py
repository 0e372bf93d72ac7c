"""Starts a server for as long as a block of code needs its answers."""

import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from pipeline.core import files


@contextmanager
def running_server(*models: Path | str) -> Iterator[httpx.Client]:
    """Run `python -m serve` on a free port of 127.0.0.1, and yield a client of it.

    models: the arguments of --model.

    Raises:
        ConnectionError: it stopped, did not start within 60 seconds, or failed a request.
    """
    command = [sys.executable, "-m", "serve", "--port", "0"]
    command += [f"--model={model}" for model in models]
    with (
        subprocess.Popen(command, cwd=files.ROOT, text=True, stdout=subprocess.PIPE) as server,
        stopping(server),
    ):
        assert server.stdout
        started, _, _ = select.select([server.stdout], [], [], 60)
        address = re.search(r"http://\S+", server.stdout.readline()) if started else None
        if not address:
            raise ConnectionError("the server stopped or did not start within 60 s, see above")
        with httpx.Client(base_url=address[0], timeout=60, trust_env=False) as client:
            yield client


@contextmanager
def stopping(server: subprocess.Popen[Any]) -> Iterator[None]:
    """Stop a server at the end of the block.

    Raises:
        ConnectionError: a request in the block failed.
    """
    try:
        yield
    except httpx.HTTPError as error:
        raise ConnectionError(f"the server failed a request: {error}") from error
    finally:
        server.terminate()
        server.wait()
