"""Runs the waiting requests as one batch; independent of HTTP.

A lone request is not delayed: a batch is what arrives within two iterations of the event loop, and
iterations take no time when the loop is idle.
"""

import asyncio
import time
from collections import deque

import numpy as np

from serve.engine import Engine
from serve.metrics import Metrics

Answer = tuple[Engine, dict[str, np.ndarray]]
Waiting = tuple[np.ndarray, asyncio.Future[Answer], float]  # images, answer, start


class OverloadError(Exception):
    """Raised when too many images are waiting; the caller should retry later."""


class Batcher:
    """Runs inference requests in batches on the current engine.

    engine: the current engine; a batch runs on the same engine from start to end.
    metrics: records every batch.
    max_waiting: maximum number of waiting images, beyond which `infer` raises `OverloadError`; it
        also bounds the latency.
    max_batch: maximum number of images in a batch of several requests.
    """

    def __init__(self, engine: Engine, max_waiting: int = 4096, max_batch: int = 256) -> None:
        self.engine = engine
        self.metrics = Metrics(engine)
        self.waiting = 0  # images
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._queue: deque[Waiting] = deque()

    def swap(self, engine: Engine) -> None:
        """Run all subsequent batches on another engine."""
        self.metrics.set_engine(engine)
        self.engine = engine

    def infer(self, images: np.ndarray, start: float) -> asyncio.Future[Answer]:
        """Queue images (N, 28, 28) uint8; return a future of the engine and its outputs for them.

        start: when the request arrived, by time.perf_counter().

        Raises:
            OverloadError: too many images are waiting.
        """
        if self.waiting + len(images) > self._max_waiting:
            raise OverloadError
        loop = asyncio.get_running_loop()
        if not self._queue:
            loop.call_soon(loop.call_soon, self._run_all)  # two iterations: the first reads more
        answer: asyncio.Future[Answer] = loop.create_future()
        self._queue.append((images, answer, start))
        self.waiting += len(images)
        return answer

    def _run_all(self) -> None:
        # Run all batches before reading more: under overload, reading requests only to reject them
        # would take all the time.
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
            self.metrics.observe_batch(tensors, self.waiting)
            self._answer(batch, engine, tensors)
        except Exception as error:  # of any type: every caller must receive it
            for _, answer, _ in batch:
                if not answer.done():
                    answer.set_exception(error)

    def _answer(self, batch: list[Waiting], engine: Engine, tensors: dict[str, np.ndarray]) -> None:
        now = time.perf_counter()
        self.metrics.observe_requests(200, [now - start for _, _, start in batch])
        logits, probabilities = tensors["logits"], tensors["probabilities"]
        end = 0
        for images, answer, _ in batch:
            begin, end = end, end + len(images)
            if not answer.done():  # the caller may have been canceled
                outputs = {"logits": logits[begin:end], "probabilities": probabilities[begin:end]}
                answer.set_result((engine, outputs))
