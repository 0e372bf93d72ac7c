"""Loads the models again, on request and at intervals, in a thread of its own."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread

from serve.model.engine import Engine
from serve.model.served import ServedModels

log = logging.getLogger("serve")


class Reloader:
    """Replaces each model's engine when its `load` returns another version.

    loads: one for each model, returns what replaces its engine, or None for no change; whatever it
        raises, the old engine stays.
    requests: each item asks for a load of all.
    poll_s: seconds between loads; None to load only on request.
    """

    def __init__(
        self,
        loads: Sequence[Callable[[Engine], Engine | None]],
        models: ServedModels,
        requests: SimpleQueue[int],
        poll_s: float | None = None,
    ) -> None:
        self._loads = loads
        self._models = models
        self._requests = requests
        self._poll_s = poll_s

    def start(self) -> None:
        """Start the thread; it swaps engines in the running event loop."""
        loop = asyncio.get_running_loop()
        Thread(target=self._run, args=[loop], daemon=True).start()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                self._requests.get(timeout=self._poll_s)
                while True:  # one load serves all requests so far
                    self._requests.get_nowait()
            except Empty:
                self.reload(loop)

    def reload(self, loop: asyncio.AbstractEventLoop) -> None:
        """Load every model, and swap in those that are new; keep the old one if anything fails."""
        for place, load in enumerate(self._loads):
            old = self._models.served[place].engine
            try:
                engine = load(old)
                if engine and engine.version != old.version:
                    asyncio.run_coroutine_threadsafe(self._swap(place, engine), loop).result()
                    log.info("%s: %s replaces version %s", old.name, engine.version, old.version)
                failed = False
            except Exception as error:  # of any type: the old engine must stay
                reason, failed = describe(error), True
                log.error("%s: reload failed, kept version %s: %s", old.name, old.version, reason)
            self._models.served[place].metrics.reload_failed.set(failed)

    async def _swap(self, place: int, engine: Engine) -> None:
        self._models.swap(place, engine)


def describe(error: BaseException) -> str:
    """Return the error in one line, with its type if that is not evident."""
    text = " ".join(str(error).split())
    if isinstance(error, (OSError, ValueError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
