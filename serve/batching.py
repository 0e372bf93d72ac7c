"""Runs the requests that wait as one batch. Knows nothing of HTTP.

A lone request never waits for company: what has arrived two turns of the event loop later is a
batch, and turns take no time when there is nothing to do.
"""

import asyncio
import time
from collections import deque

import numpy as np

from serve.engine import Engine
from serve.metrics import Metrics

Answer = tuple[Engine, dict[str, np.ndarray]]


class OverloadError(Exception):
    """As many images wait as may: the caller should come again later."""


class Batcher:
    """Answers requests in batches with the engine of the moment.

    engine: the one of the moment; a batch runs with one from its start to its end.
    metrics: told of every batch.
    max_waiting: images that may wait, past which `infer` raises `OverloadError`; it bounds the
        time that an answer takes, too.
    max_batch: images at most in a batch of several requests.
    """

    def __init__(self, engine: Engine, max_waiting: int = 4096, max_batch: int = 256) -> None:
        self.engine = engine
        self.metrics = Metrics(engine)
        self.waiting = 0  # images
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._queue: deque[tuple[np.ndarray, asyncio.Future[Answer], float]] = deque()

    def swap(self, engine: Engine) -> None:
        """Run the batches from now on with another engine."""
        self.engine = engine
        self.metrics.set_engine(engine)

    def infer(self, images: np.ndarray, start: float) -> asyncio.Future[Answer]:
        """Return what will be the engine that answered and its outputs for images (N, 28, 28).

        start: when the request came, by time.perf_counter().

        Raises:
            OverloadError: too many images wait.
        """
        if self.waiting + len(images) > self._max_waiting:
            raise OverloadError
        loop = asyncio.get_running_loop()
        if not self._queue:
            loop.call_soon(loop.call_soon, self._run_all)  # two turns: the first one reads
        answer: asyncio.Future[Answer] = loop.create_future()
        self._queue.append((images, answer, start))
        self.waiting += len(images)
        return answer

    def _run_all(self) -> None:
        # Before more is read: under overload, reading what must be refused would take all the time.
        while self._queue:
            self._run_batch()

    def _run_batch(self) -> None:
        batch = [self._queue.popleft()]
        size = len(batch[0][0])
        while self._queue and size + len(self._queue[0][0]) <= self._max_batch:
            batch.append(self._queue.popleft())
            size += len(batch[-1][0])
        self.waiting -= size
        engine = self.engine
        try:
            together = [images for images, _, _ in batch]
            tensors = engine.infer(together[0] if len(batch) == 1 else np.concatenate(together))
        except Exception as error:  # of whatever kind: each caller must learn of it
            for _, answer, _ in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        self.metrics.observe_batch(tensors, self.waiting)
        now = time.perf_counter()
        self.metrics.observe_requests(200, [now - start for _, _, start in batch])
        logits, probabilities = tensors["logits"], tensors["probabilities"]
        end = 0
        for images, answer, _ in batch:
            begin, end = end, end + len(images)
            if not answer.done():  # its caller may have gone
                outputs = {"logits": logits[begin:end], "probabilities": probabilities[begin:end]}
                answer.set_result((engine, outputs))
