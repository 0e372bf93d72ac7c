"""The server's worker processes: one, or several that share a socket."""

import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from argparse import Namespace
from functools import partial
from multiprocessing.connection import wait

import uvicorn

from serve.app import App
from serve.engine import Engine
from serve.model import resolve


def answer(arguments: Namespace, listener: socket.socket) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT, then finish started requests and exit 0."""
    configure_log()
    load = partial(load_engine, arguments.model)
    app = App(load, os.environ.get("SERVE_TOKEN"), arguments.log_requests, arguments.poll)
    config = uvicorn.Config(app, log_level="warning", access_log=False, proxy_headers=False)
    server = uvicorn.Server(config)
    # uvicorn raises the signal again after shutdown; a requested stop must exit with 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    gc.freeze()  # do not scan what stays loaded at every collection
    gc.set_threshold(100_000, 50, 1000)  # requests create almost no reference cycles
    server.run(sockets=[listener])


def load_engine(model: str) -> Engine:
    """Load the model that --model currently resolves to."""
    return Engine(resolve(model))


def configure_log() -> None:
    """Log to standard error, with a timestamp on each line."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)


def answer_together(arguments: Namespace, listener: socket.socket) -> None:
    """Serve with several processes until one exits, then stop the others.

    SIGTERM, SIGINT and SIGHUP are forwarded to each. The exit status is 0 if all stopped cleanly.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # where the workers share their metrics
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=_answer_while_led, args=[arguments, listener])
            for _ in range(arguments.workers)
        ]
        for worker in workers:
            worker.start()

        def forward(number: int, _frame: object) -> None:
            for worker in workers:
                if worker.is_alive() and worker.pid:
                    os.kill(worker.pid, number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, forward)
        wait([worker.sentinel for worker in workers])  # one has exited, by a signal or a crash
        forward(signal.SIGTERM, None)
        for worker in workers:
            worker.join()
        told_to = (0, -signal.SIGTERM)  # the latter before it has set its handler
        sys.exit(int(any(worker.exitcode not in told_to for worker in workers)))


def _answer_while_led(arguments: Namespace, listener: socket.socket) -> None:
    leader = multiprocessing.parent_process()
    assert leader

    def follow() -> None:
        wait([leader.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)  # the leader was killed: do not outlive it

    threading.Thread(target=follow, daemon=True).start()
    answer(arguments, listener)
