"""The served models, by name."""

from serve.batching import Batcher
from serve.engine import Engine
from serve.metrics import Metrics
from serve.reader import HTTPError


class Models:
    """The models of one server, each with its own queue of requests.

    batchers: one for each model, in the order of --model. metrics: those of all.
    """

    def __init__(self, engines: list[Engine]) -> None:
        check_names(engines)
        self.metrics = Metrics(len(engines))
        self.batchers = [Batcher(engine, self.metrics) for engine in engines]

    def engines(self) -> list[Engine]:
        """Return what serves each model now."""
        return [batcher.engine for batcher in self.batchers]

    def find(self, name: str, version: str | None) -> Batcher:
        """Return the batcher of a model.

        Raises:
            HTTPError: there is no such model, or it has another version (404).
        """
        for batcher in self.batchers:
            if batcher.engine.name == name:
                if version not in (None, batcher.engine.version):
                    raise HTTPError(
                        404, f"no version {version!r}: {name!r} has {batcher.engine.version!r}"
                    )
                return batcher
        names = ", ".join(repr(engine.name) for engine in self.engines())
        raise HTTPError(404, f"no model {name!r}: this server has {names}")

    def swap(self, batcher: Batcher, engine: Engine) -> None:
        """Serve another engine; see `Batcher.swap`.

        Raises:
            ValueError: another model has its name.
        """
        others = [other.engine for other in self.batchers if other is not batcher]
        check_names([*others, engine])
        batcher.swap(engine)

    def version(self, name: str) -> str | None:
        """Return a model's version, or None if there is no such model."""
        versions = {engine.name: engine.version for engine in self.engines()}
        return versions.get(name)

    def observe_failure(self, batcher: Batcher | None, status: int, latency_s: float) -> None:
        """Record a request that failed, to a model or, if None, to one that there is not."""
        if batcher:
            batcher.metrics.observe_requests(status, [latency_s])
        else:
            self.metrics.observe_unknown(latency_s)


def check_names(engines: list[Engine]) -> None:
    """Raise ValueError if two models have the same name."""
    names = [engine.name for engine in engines]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"several models are named {name!r}: rename them by --model NAME=PATH")
