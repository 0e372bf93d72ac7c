"""A thread of a model's own, so that a model that is slow stops no other and no route."""

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")
Jobs = SimpleQueue[Callable[[], None] | None]


class Runner:
    """Runs functions one after the other in a thread, which ends with the runner.

    The thread is a daemon: the server stops without waiting for a model that never ends.
    """

    def __init__(self) -> None:
        """Start the thread."""
        self._jobs: Jobs = SimpleQueue()
        Thread(target=_work, args=[self._jobs], daemon=True).start()
        weakref.finalize(self, self._jobs.put, None)

    def run(self, function: Callable[[], Result]) -> asyncio.Future[Result]:
        """Return a future of what a function returns, which must not raise."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def job() -> None:
            result = function()
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(future.set_result, result)

        self._jobs.put(job)
        return future


def _work(jobs: Jobs) -> None:
    while job := jobs.get():
        job()
        del job  # it refers to the model
