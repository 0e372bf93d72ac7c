"""Shares the work among processes that accept from one socket."""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import wait


def run_workers(count: int, work: Callable[[], None]) -> None:
    """Run `work` in several processes until one ends or a signal comes; then end them all.

    SIGTERM, SIGINT and SIGHUP go on to each. The exit status is 0 if all ended well.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # where the workers share their metrics
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=work) for _ in range(count)]
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
        sys.exit(int(any(worker.exitcode for worker in workers)))
