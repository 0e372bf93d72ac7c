"""The process that leads several workers, which share a socket and a folder of metrics."""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from argparse import Namespace
from collections import deque
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread

from prometheus_client.multiprocess import mark_process_dead

from serve.metrics import METRICS_FOLDER
from serve.reload import describe
from serve.workers import GRACE_S, SIGNALS, answer, configure_log, handle_signals, load_engines

MAX_DEATHS = 10  # within DEATHS_S
DEATHS_S = 60.0
log = logging.getLogger("serve")


def answer_together(
    arguments: Namespace, listener: socket.socket, hangups: SimpleQueue[int]
) -> int:
    """Serve with several processes until SIGTERM or SIGINT; return the exit status.

    It is 0 if all have stopped cleanly, and 1 if one has not or if too many have died.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: hangups.put(number))
    with TemporaryDirectory(prefix="serve-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        return Leader(arguments, listener, hangups).lead()


class Leader:
    """Keeps the workers running, and forwards signals to them."""

    def __init__(
        self, arguments: Namespace, listener: socket.socket, signals: SimpleQueue[int]
    ) -> None:
        self._arguments = arguments
        self._listener = listener
        self._signals = signals
        self._workers: list[SpawnProcess] = []
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self._stop_by: float | None = None  # by time.monotonic()

    def lead(self) -> int:
        """Start the workers and replace those that die, until told to stop or too many have died.

        Returns:
            The exit status.
        """
        for _ in range(self._arguments.workers):
            self._start()
        failed = False
        while self._workers:
            with suppress(Empty):
                self._forward(self._signals.get(timeout=0.1))
            for worker in [worker for worker in self._workers if not worker.is_alive()]:
                failed |= not self._replace(worker)
            if self._stop_by and time.monotonic() > self._stop_by:
                self._forward(signal.SIGKILL)
        return int(failed)

    def _start(self) -> None:
        worker = multiprocessing.get_context("spawn").Process(
            target=_answer_while_led, args=[self._arguments, self._listener]
        )
        # The worker inherits the mask, so that no signal ends it or is lost before it handles them.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        worker.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._workers.append(worker)

    def _forward(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop_by = time.monotonic() + GRACE_S + 5
        for worker in self._workers:
            assert worker.pid
            with suppress(ProcessLookupError):  # it has just died
                os.kill(worker.pid, number)

    def _replace(self, worker: SpawnProcess) -> bool:
        """Replace a dead worker unless the server stops; return whether all is well."""
        self._workers.remove(worker)
        mark_process_dead(worker.pid, os.environ[METRICS_FOLDER])
        if self._stop_by:
            return worker.exitcode == 0
        now = time.monotonic()
        repeated = len(self._deaths) == MAX_DEATHS and now - self._deaths[0] < DEATHS_S
        self._deaths.append(now)
        ending = f"worker {worker.pid} ended with {worker.exitcode}"
        if repeated:
            log.error("%s, as %d others in %d s: stopping", ending, MAX_DEATHS, DEATHS_S)
            self._forward(signal.SIGTERM)
            return False
        log.error("%s: starting another", ending)
        self._start()
        return True


def _answer_while_led(arguments: Namespace, listener: socket.socket) -> None:
    configure_log()
    hangups = handle_signals()
    leader = multiprocessing.parent_process()
    assert leader

    def follow() -> None:
        wait([leader.sentinel])  # it was killed: do not outlive it, and clean up after it
        shutil.rmtree(os.environ[METRICS_FOLDER], ignore_errors=True)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=follow, daemon=True).start()
    try:
        answer(arguments, listener, load_engines(arguments.sources), hangups)
    except Exception as error:
        sys.exit(f"error: {describe(error)}")
