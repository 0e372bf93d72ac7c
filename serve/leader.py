"""The process that starts several workers, which share a socket and a folder of metrics."""

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import SpawnProcess
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory

from prometheus_client.multiprocess import mark_process_dead

from serve.model.metrics import METRICS_FOLDER
from serve.process import GRACE_S, SIGNALS

MAX_DEATHS = 10  # within DEATHS_S
DEATHS_S = 60.0
log = logging.getLogger("serve")


class Leader:
    """Keeps the workers running, and forwards signals to them.

    create: returns a worker that has not been started. signals: the SIGHUPs.
    """

    def __init__(
        self, count: int, create: Callable[[], SpawnProcess], signals: SimpleQueue[int]
    ) -> None:
        self._count = count
        self._create = create
        self._signals = signals
        self._workers: list[SpawnProcess] = []
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self._stop_by: float | None = None  # by time.monotonic()

    def lead(self) -> int:
        """Start the workers and replace those that die, until SIGTERM or SIGINT; return the exit
        status: 0 if all have stopped cleanly, 1 if one has not or if too many have died."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: self._signals.put(number))
        failed = False
        with TemporaryDirectory(prefix="serve-metrics-") as folder:
            os.environ[METRICS_FOLDER] = folder
            for _ in range(self._count):
                self._start()
            while self._workers:
                with suppress(Empty):
                    self._forward(self._signals.get(timeout=0.1))
                for worker in [worker for worker in self._workers if not worker.is_alive()]:
                    failed |= not self._replace(worker)
                if self._stop_by and time.monotonic() > self._stop_by:
                    self._forward(signal.SIGKILL)
        return int(failed)

    def _start(self) -> None:
        worker = self._create()
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
