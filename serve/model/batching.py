"""Runs the waiting requests of a model as one batch.

A lone request is not delayed: a batch is what arrives within two iterations of the event loop, and
iterations take no time when the loop is idle.
"""

import asyncio
import time
from collections import deque

import numpy as np

from serve.model.engine import Engine
from serve.model.metrics import ModelMetrics
from serve.protocol.request import Request
from serve.protocol.tensors import Arrays

Waiting = tuple[Request, asyncio.Future[Arrays], float]  # with its answer, and when it arrived


class OverloadError(Exception):
    """Raised when too much is waiting; the caller should retry later."""


class Batcher:
    """Runs a model's requests in batches.

    engine: runs them. metrics: record every batch and its requests. waiting: rows that wait.
    """

    max_waiting = 4096  # rows, beyond which `infer` raises `OverloadError`; it bounds the latency
    max_waiting_bytes = 2**26  # the same for the bodies of their requests
    max_batch = 256  # rows in a batch of several requests

    def __init__(self, engine: Engine, metrics: ModelMetrics) -> None:
        self.waiting = 0
        self._waiting_bytes = 0
        self._engine = engine
        self._metrics = metrics
        self._queue: deque[Waiting] = deque()

    def infer(self, request: Request, start: float) -> asyncio.Future[Arrays]:
        """Queue a request; return a future of its outputs.

        start: when the request arrived, by time.perf_counter().

        Raises:
            OverloadError: too much is waiting.
        """
        if (
            self.waiting + request.rows > self.max_waiting
            or self._waiting_bytes + request.size > self.max_waiting_bytes
        ):
            raise OverloadError("too many requests are waiting: try again in a second")
        loop = asyncio.get_running_loop()
        if not self._queue:
            loop.call_soon(loop.call_soon, self._run_all)  # two iterations: the first reads more
        answer: asyncio.Future[Arrays] = loop.create_future()
        self._queue.append((request, answer, start))
        self.waiting += request.rows
        self._waiting_bytes += request.size
        return answer

    def _run_all(self) -> None:
        # Run all batches before reading more: under overload, reading requests only to reject them
        # would take all the time.
        while self._queue:
            self._run(self._next_batch())
        self._waiting_bytes = 0

    def _next_batch(self) -> list[Waiting]:
        batch, queue = [self._queue.popleft()], self._queue
        request, *_ = batch[0]
        rows, key = request.rows, request.batch_key
        while queue and key is not None:
            request, *_ = queue[0]
            if request.batch_key != key or rows + request.rows > self.max_batch:
                break
            rows += request.rows
            batch.append(queue.popleft())
        self.waiting -= rows
        return batch

    def _run(self, batch: list[Waiting]) -> None:
        requests = [request for request, *_ in batch]
        try:
            outputs = self._engine.infer(join([request.inputs for request in requests]))
            rows = sum([request.rows for request in requests])
            self._metrics.observe_batch(rows, outputs, requests[0].drift)
            self._answer(batch, outputs)
        except Exception as error:  # of any type: every caller must receive an answer
            # Without its frames: they hold the batch and so the answers, which will hold the error,
            # a cycle that would last until garbage collection.
            self._fail(batch, error.with_traceback(None))

    def _answer(self, batch: list[Waiting], outputs: Arrays) -> None:
        now = time.perf_counter()
        self._metrics.observe_requests(200, [now - start for *_, start in batch])
        end = 0
        for request, answer, _ in batch:
            begin, end = end, end + request.rows
            if answer.done():  # the caller may have been canceled
                continue
            if len(batch) == 1:
                answer.set_result(outputs)
            else:
                names = [wanted.name for wanted in request.outputs]
                answer.set_result({name: outputs[name][begin:end] for name in names})

    def _fail(self, batch: list[Waiting], error: Exception) -> None:
        """Run each request alone, so that only those fail that the model cannot run."""
        if len(batch) > 1:
            for waiting in batch:
                self._run([waiting])
            return
        (_, answer, _), *_ = batch
        if not answer.done():
            answer.set_exception(error)


def join(parts: list[Arrays]) -> Arrays:
    """Return the rows of several requests as one batch."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
