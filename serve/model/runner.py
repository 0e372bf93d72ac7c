"""A thread of a model's own, so that a model that is slow stops no other and no route."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class Runner:
    """Runs functions one after the other in a thread, which ends with the runner.

    The server stops without waiting for a model that never ends: see `process.handle_signals`.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1)

    def run(self, function: Callable[[], Result]) -> asyncio.Future[Result]:
        """Return a future of what a function returns."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function)
