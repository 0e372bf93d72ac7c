"""The processes that answer: one, or several that share the work on one socket."""

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
    """Answer on a bound socket until SIGTERM or SIGINT, then finish what has begun and exit 0."""
    configure_log()
    load = partial(load_engine, arguments.model)
    app = App(load, os.environ.get("SERVE_TOKEN"), arguments.log_requests, arguments.poll)
    config = uvicorn.Config(app, log_level="warning", access_log=False, proxy_headers=False)
    server = uvicorn.Server(config)
    # uvicorn raises the signal again when it is done: to have been told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    gc.freeze()  # what is loaded stays: no need to look through it again and again
    gc.set_threshold(100_000, 50, 1000)  # requests leave next to no cycles behind
    server.run(sockets=[listener])


def load_engine(model: str) -> Engine:
    """Return the engine of what --model names now."""
    return Engine(resolve(model))


def configure_log() -> None:
    """Log to standard error, each line with its time."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)


def answer_together(arguments: Namespace, listener: socket.socket) -> None:
    """Let several processes answer until one ends or a signal comes; then end them all.

    SIGTERM, SIGINT and SIGHUP go on to each. The exit status is 0 if all ended well.
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
        wait([worker.sentinel for worker in workers])  # one has ended: asked to, or by an accident
        forward(signal.SIGTERM, None)
        for worker in workers:
            worker.join()
        told_to = (0, -signal.SIGTERM)  # the latter before it could begin
        sys.exit(int(any(worker.exitcode not in told_to for worker in workers)))


def _answer_while_led(arguments: Namespace, listener: socket.socket) -> None:
    leader = multiprocessing.parent_process()
    assert leader

    def follow() -> None:
        wait([leader.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)  # the leader was killed: leave nobody behind

    threading.Thread(target=follow, daemon=True).start()
    answer(arguments, listener)
