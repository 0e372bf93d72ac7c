"""The process that answers requests: the only one, or one of several that leader.py starts."""

import gc
import logging
import os
import signal
import socket
from argparse import Namespace
from functools import partial
from queue import SimpleQueue

import uvicorn

from serve.access import Access
from serve.app import App
from serve.connection import Connection
from serve.engine import Engine
from serve.model import Source, resolve

GRACE_S = 10  # for started requests to finish after SIGTERM
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


def handle_signals() -> SimpleQueue[int]:
    """Return a queue of the SIGHUPs from now on; exit with 0 on SIGTERM and SIGINT.

    uvicorn handles the latter two while it runs, and raises them again after shutdown. The exit is
    immediate, since a thread may hang in a download.
    """
    hangups: SimpleQueue[int] = SimpleQueue()  # a signal handler may put into it at any moment
    signal.signal(signal.SIGHUP, lambda number, _frame: hangups.put(number))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked if leader.py started this process
    return hangups


def answer(
    arguments: Namespace, listener: socket.socket, engines: list[Engine], hangups: SimpleQueue[int]
) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT, then finish started requests and exit 0."""
    access = Access(os.environ.get("SERVE_TOKEN"), arguments.allowed_hosts)
    loads = [partial(load_engine, source) for source in arguments.sources]
    app = App(engines, loads, access, hangups, arguments.log_requests, arguments.poll)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    gc.freeze()  # do not scan what stays loaded at every collection
    uvicorn.Server(config).run(sockets=[listener])


def load_engine(source: Source) -> Engine:
    """Load the model that the source currently resolves to."""
    with resolve(source.where) as path:
        return Engine(path, source.name)


def load_engines(sources: list[Source]) -> list[Engine]:
    """Load every model."""
    return [load_engine(source) for source in sources]


def configure_log() -> None:
    """Log to standard error, with a timestamp on each line."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
