"""Runs the waiting requests of a model as one batch, of a slow model in a thread.

A lone request is not delayed: a batch is what arrives within two iterations of the event loop, or
while the last batch runs, and iterations take no time when the loop is idle.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from serve.model.engine import Engine
from serve.model.metrics import ModelMetrics
from serve.protocol.request import Request
from serve.protocol.tensors import Arrays

Waiting = tuple[Request, asyncio.Future[Arrays], float]  # with its answer, and when it arrived
Outcome = tuple[list[Waiting], Arrays | Exception]  # of a batch


class OverloadError(Exception):
    """Raised when too much is waiting; the caller should retry later."""


class Batcher:
    """Runs a model's requests in batches; metrics record each batch and its requests.

    sample: called with the rows, requests and outputs of each batch that may be sampled, or None.
    """

    max_waiting = 4096  # rows, beyond which `infer` raises `OverloadError`; it bounds the latency
    max_batch = 256  # rows in a batch of several requests

    def __init__(self, engine: Engine, metrics: ModelMetrics, thread: Executor) -> None:
        self.waiting = 0  # rows
        self.sample: Callable[[int, list[Waiting], Arrays], None] | None = None
        self._engine = engine
        self._metrics = metrics
        self._thread = thread
        self._queue: deque[Waiting] = deque()
        self._busy = False

    def infer(self, request: Request, start: float) -> asyncio.Future[Arrays]:
        """Queue a request; return a future of its outputs.

        start: when the request arrived, by time.perf_counter().

        Raises:
            OverloadError: too many rows are waiting.
        """
        if self.waiting + request.rows > self.max_waiting:
            raise OverloadError("too many requests are waiting: try again in a second")
        loop = asyncio.get_running_loop()
        if not self._queue and not self._busy:
            loop.call_soon(loop.call_soon, self._run_all)  # two iterations: the first reads more
        answer: asyncio.Future[Arrays] = loop.create_future()
        self._queue.append((request, answer, start))
        self.waiting += request.rows
        return answer

    def _run_all(self) -> None:
        # Before reading more: under overload, reading requests only to reject them would take all
        # the time. A thread costs a fast model an eighth of its rate.
        while self._queue and not self._busy:
            batch = self._next_batch()
            if self._engine.is_slow:
                self._busy = True
                loop = asyncio.get_running_loop()
                loop.run_in_executor(self._thread, self._run, batch).add_done_callback(self._finish)
            else:
                self._answer(self._run(batch))

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

    def _run(self, batch: list[Waiting]) -> list[Outcome]:
        """Run a batch; if it fails, run each request alone, so that only those fail that the model
        cannot run."""
        try:
            return [(batch, self._engine.infer(join([request.inputs for request, *_ in batch])))]
        except Exception as error:
            # Without its frames: they hold the batch and so the answers, which will hold the error,
            # a cycle that would last until garbage collection.
            failure = error.with_traceback(None)
        if len(batch) == 1:
            return [(batch, failure)]
        return [outcome for waiting in batch for outcome in self._run([waiting])]

    def _finish(self, outcomes: asyncio.Future[list[Outcome]]) -> None:
        self._busy = False
        self._run_all()
        self._answer(outcomes.result())

    def _answer(self, outcomes: list[Outcome]) -> None:
        for batch, outputs in outcomes:
            try:
                self._answer_batch(batch, outputs)
            except Exception as error:  # of any type: every caller must receive an answer
                for _, answer, _ in batch:
                    if not answer.done():
                        answer.set_exception(error.with_traceback(None))

    def _answer_batch(self, batch: list[Waiting], outputs: Arrays | Exception) -> None:
        if isinstance(outputs, Exception):
            raise outputs
        rows = sum([request.rows for request, *_ in batch])
        self._metrics.observe_batch(rows, outputs, batch[0][0].drift)
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
        if self.sample and batch[0][0].sample:  # last, so that it can fail no request
            self.sample(rows, batch, outputs)


def join(parts: list[Arrays]) -> Arrays:
    """Return the rows of several requests as one batch."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
