"""What the leader and the workers have in common: signals, the log and the time to stop."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from queue import SimpleQueue

GRACE_S = 10  # for started requests to finish after SIGTERM
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


def handle_signals(stop: Callable[[], None]) -> SimpleQueue[int]:
    """Return a queue of the SIGHUPs from now on; call `stop` and exit with 0 on SIGTERM and SIGINT.

    uvicorn handles the latter two while it runs, and raises them again after shutdown. The exit is
    immediate, since a thread may run a model that never ends.
    """

    def end(_number: int, _frame: object) -> None:
        stop()
        os._exit(0)

    hangups: SimpleQueue[int] = SimpleQueue()  # a signal handler may put into it at any moment
    signal.signal(signal.SIGHUP, lambda number, _frame: hangups.put(number))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked if leader.py started this process
    return hangups


def configure_log() -> None:
    """Log to standard error, with a timestamp on each line; what nobody reads is dropped."""
    if not sys.stderr.isatty():  # whose other programs would not expect it
        os.set_blocking(sys.stderr.fileno(), False)
    logging.raiseExceptions = False  # of BlockingIOError, which would be printed to the same pipe
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
