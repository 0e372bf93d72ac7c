"""Loads the model again, on request and at intervals, in a thread of its own."""

import asyncio
import logging
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

from serve.batching import Batcher
from serve.engine import Engine

log = logging.getLogger("serve")


class Reloader:
    """Replaces the batcher's engine when `load` returns another version.

    The thread is a daemon: the server stops without waiting for a load that hangs.

    load: returns the current model; whatever it raises, the old model stays.
    requests: each item asks for a load.
    poll_s: seconds between loads; None to load only on request.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        batcher: Batcher,
        requests: SimpleQueue[int],
        poll_s: float | None = None,
    ) -> None:
        self._load = load
        self._batcher = batcher
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
        """Load the model and swap it in if it is new; keep the old one if anything fails."""
        old = self._batcher.engine.version
        try:
            engine = self._load()
            if engine.version != old:
                asyncio.run_coroutine_threadsafe(self._swap(engine), loop).result()
                log.info("replaced version %s with %s", old, engine.version)
        except Exception as error:  # of any type: the old model must stay
            log.error("reload failed, kept version %s: %s", old, describe(error))

    async def _swap(self, engine: Engine) -> None:
        self._batcher.swap(engine)


def describe(error: BaseException) -> str:
    """Return the error in one line, with its type if that is not evident."""
    text = " ".join(str(error).split())
    if isinstance(error, (OSError, ValueError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
