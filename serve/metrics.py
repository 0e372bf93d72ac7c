"""The metrics that Prometheus reads at /metrics, aggregated over all workers."""

import logging
import os
from pathlib import Path

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from serve.drift import DriftWindow
from serve.engine import Engine

log = logging.getLogger("serve")

LATENCIES_S = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
STATUSES = [200, 400, 404, 408, 413, 500, 503]
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's name; set by leader.py
# The files that prometheus_client writes there, by the types and modes of the metrics below.
FILES = ["counter", "histogram", "gauge_livemax", "gauge_livesum", "gauge_mostrecent"]
FILE_BYTES = 2**18
BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


def reserve(folder: Path) -> None:
    """Allocate this process's files of shared metrics.

    They are mapped into memory: on a disk that is full later, a write to a part that is not
    allocated would end the process.

    Raises:
        OSError: the disk is full.
    """
    try:
        for name in FILES:
            with (folder / f"{name}_{os.getpid()}.db").open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
    except OSError as error:
        raise OSError(f"no room for the shared metrics in {folder}: {error.strerror}") from error


class Metrics:
    """The server's counters, histograms and gauges, in their own registry."""

    def __init__(self, engine: Engine) -> None:
        if METRICS_FOLDER in os.environ:
            reserve(Path(os.environ[METRICS_FOLDER]))
        self._registry = CollectorRegistry()
        registry = self._registry
        latency = Histogram(
            "inference_latency_seconds", "From a request's arrival to its response", ["status"],
            buckets=LATENCIES_S, registry=registry,
        )  # fmt: skip
        self._latency = {status: latency.labels(str(status)) for status in STATUSES}
        self._batch = Histogram(
            "inference_batch_images", "Images per batch",
            buckets=BATCH_SIZES, registry=registry,
        )  # fmt: skip
        self._waiting = Gauge(
            "inference_waiting_images", "Images waiting to be run",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        classes = Counter(
            "inference_predictions", "Images by predicted class", ["digit"], registry=registry
        )
        self._predictions = [classes.labels(str(digit)) for digit in range(10)]
        self._drift = Gauge(
            "inference_drift_score", "Drift of the last window from the training images",
            registry=registry, multiprocess_mode="mostrecent",
        )  # fmt: skip
        self._model = Gauge(
            "inference_model_info", "1 for the served version", ["name", "version"],
            registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        refusals = Counter(
            "http_refusals", "Requests refused for their token (401) or host (421)", ["status"],
            registry=registry,
        )  # fmt: skip
        self._refusals = {status: refusals.labels(str(status)) for status in (401, 421)}
        self._engine: Engine | None = None
        self.set_engine(engine)

    def observe_requests(self, status: int, latencies_s: list[float]) -> None:
        """Record the latencies of inference requests by HTTP status.

        One call per batch is several times faster than one per request.
        """
        for latency_s in latencies_s:
            self._latency[status].observe(latency_s)

    def observe_batch(self, tensors: dict[str, np.ndarray], waiting: int) -> None:
        """Record one batch by its outputs, and add it to the drift window."""
        logits = tensors["logits"]
        self._batch.observe(len(logits))
        if self._window and self._window.add(tensors[self._window.tensor]):
            self._drift.set(self._window.score)
        self._waiting.set(waiting)
        for digit, count in enumerate(np.bincount(logits.argmax(axis=1), minlength=10).tolist()):
            if count:
                self._predictions[digit].inc(count)

    def count_refusal(self, status: int) -> None:
        """Count a request that access.py has refused."""
        self._refusals[status].inc()

    def set_engine(self, engine: Engine) -> None:
        """Record which version is served, and start a new drift window for it."""
        if self._engine:
            self._model.labels(self._engine.name, self._engine.version).set(0)
        self._model.labels(engine.name, engine.version).set(1)
        self._engine = engine
        self._window = DriftWindow(engine.statistics) if engine.statistics else None
        self._drift.set(float("nan"))
        if not self._window:
            log.warning("the model has no training statistics: drift is not measured")

    def exposition(self) -> bytes:
        """Return the metrics of all workers in Prometheus's text format."""
        if METRICS_FOLDER not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)
        return generate_latest(together)
