"""The served models: each has an engine, a decoder, an encoder, a queue and metrics of its own."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from serve.model.batching import Batcher
from serve.model.engine import Engine
from serve.model.metrics import Metrics, ModelMetrics
from serve.model.sample import Sample
from serve.protocol.decoder import Decoder
from serve.protocol.encoder import Encoder
from serve.protocol.request import Request
from serve.protocol.tensors import Arrays

TEST_S = 1.0  # health checks need no token, so anybody may send many
log = logging.getLogger("serve")


class UnknownModelError(LookupError):
    """Raised for a model or version that is not served, with a message for the client."""


class ServedModel:
    """One version of a model: from the body of a request to the body of the response.

    decoder: reads its requests. batcher: has those that wait. engine: runs it. metrics: record it.
    sample: of its rows, or None.
    """

    def __init__(self, engine: Engine, metrics: Metrics, sample: Sample | None = None) -> None:
        self.engine = engine
        self.sample = sample
        self.metrics = ModelMetrics(
            metrics, engine.name, engine.version, engine.labels, engine.reference
        )
        self._thread = ThreadPoolExecutor(1)  # a model that never ends stops no other and no route
        self._test: asyncio.Future[bool] | None = None
        self._tested = 0.0  # when it began, by time.monotonic()
        self.batcher = Batcher(engine, self.metrics, self._thread)
        if sample:
            sample.begin(engine.version)
            self.batcher.sample = sample.add
        self.decoder = Decoder(engine.inputs, engine.outputs, engine.batches)
        self._encoder = Encoder(engine.outputs, engine.batches, engine.labels)
        if "self_test" not in engine.metadata:
            log.warning("%s has no self-test: it is ready once it is loaded", engine.name)
        if not engine.reference:
            log.warning("%s has no reference: no drift is noticed", engine.name)

    def end(self) -> None:
        """Record that the version is replaced; its last requests are not sampled."""
        self.metrics.end()
        self.batcher.sample = None

    async def is_ready(self) -> bool:
        """Return whether the self-test passes, which runs at most once per `TEST_S`."""
        now = time.monotonic()
        if not self._test or (self._test.done() and now > self._tested + TEST_S):
            loop = asyncio.get_running_loop()
            self._test = loop.run_in_executor(self._thread, self.engine.passes_self_test)
            self._tested = now
        return await asyncio.shield(self._test)

    def encode(self, request: Request, outputs: Arrays) -> tuple[bytes, int | None]:
        """Return the response to a request that the decoder has read; see `Encoder.encode`."""
        return self._encoder.encode(self.engine.name, self.engine.version, request, outputs)


class ServedModels:
    """The models of one server.

    served: one for each --model, in their order. metrics: those of all.
    """

    def __init__(
        self, engines: list[Engine], samples: Sequence[Sample | None] | None = None
    ) -> None:
        """Serve the engines; samples: one for each, or None."""
        check_names(engines)
        self.metrics = Metrics(len(engines))
        samples = samples or [None] * len(engines)
        self.served = [
            ServedModel(engine, self.metrics, sample)
            for engine, sample in zip(engines, samples, strict=True)
        ]

    def engines(self) -> list[Engine]:
        """Return what runs each model now."""
        return [model.engine for model in self.served]

    def find(self, name: str, version: str | None = None) -> ServedModel:
        """Return a model by its name and, if given, its version.

        Raises:
            UnknownModelError: no model has the name, or it has another version.
        """
        for model in self.served:
            engine = model.engine
            if engine.name == name:
                if version not in (None, engine.version):
                    raise UnknownModelError(
                        f"no version {version!r}: {name!r} has {engine.version!r}"
                    )
                return model
        names = ", ".join(repr(engine.name) for engine in self.engines())
        raise UnknownModelError(f"no model {name!r}: this server has {names}")

    def swap(self, place: int, engine: Engine) -> None:
        """Run all new requests for the model at that place on another engine of its name; those
        that have been found by `find` finish on the old one."""
        old = self.served[place]
        new = ServedModel(engine, self.metrics, old.sample)
        old.end()
        self.served[place] = new

    def version(self, name: str) -> str | None:
        """Return a model's version, or None if there is no such model."""
        return {engine.name: engine.version for engine in self.engines()}.get(name)


def check_names(engines: list[Engine]) -> None:
    """Raise ValueError if two models have the same name."""
    names = [engine.name for engine in engines]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"several models are named {name!r}: rename them by --model NAME=PATH")
