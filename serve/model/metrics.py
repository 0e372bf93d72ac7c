"""The metrics that Prometheus reads at /metrics, aggregated over all workers."""

import math
import os
import time
from collections.abc import Mapping, Sequence
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

from serve.model.drift import Drift, Reference
from serve.protocol.tensors import Arrays

LATENCIES_S = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
STATUSES = [200, 400, 404, 408, 413, 415, 500, 503]
REFUSALS = [401, 403, 421]
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's name; set by leader.py
# The files that prometheus_client writes there, by the types and modes of the metrics below.
FILES = ["counter", "histogram", "gauge_livemax", "gauge_mostrecent"]
FILE_BYTES = 2**18  # for each model
BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


def reserve(folder: Path, models: int) -> None:
    """Allocate this process's files of shared metrics.

    They are mapped into memory: on a disk that is full later, a write to a part that is not
    allocated would end the process.

    Raises:
        OSError: the disk is full.
    """
    try:
        for name in FILES:
            with (folder / f"{name}_{os.getpid()}.db").open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, models * FILE_BYTES)
    except OSError as error:
        raise OSError(f"no room for the shared metrics in {folder}: {error.strerror}") from error


class Metrics:
    """The server's counters, histograms and gauges, in their own registry."""

    def __init__(self, models: int = 1) -> None:
        if METRICS_FOLDER in os.environ:
            reserve(Path(os.environ[METRICS_FOLDER]), models)
        self._registry = CollectorRegistry()
        registry = self._registry
        self.latency = Histogram(
            "inference_latency_seconds", "From a request's arrival to its response",
            ["model", "status"], buckets=LATENCIES_S, registry=registry,
        )  # fmt: skip
        self.batch = Histogram(
            "inference_batch_rows", "Rows per batch", ["model"],
            buckets=BATCH_SIZES, registry=registry,
        )  # fmt: skip
        self.predictions = Counter(
            "inference_predictions", "Rows by the class with the highest value",
            ["model", "label"], registry=registry,
        )  # fmt: skip
        self.alarms = Counter(
            "inference_drift_alarms", "Times that the rows were unlike the held-out images",
            ["model"], registry=registry,
        )  # fmt: skip
        self.rank = Gauge(
            "inference_drift_rank", "Mean rank of the last rows among the held-out images",
            ["model"], registry=registry, multiprocess_mode="mostrecent",
        )  # fmt: skip
        self.alarm_time = Gauge(
            "inference_drift_alarm_timestamp_seconds", "Unix time of the version's last alarm",
            ["model"], registry=registry, multiprocess_mode="mostrecent",
        )  # fmt: skip
        self.shares = Gauge(
            "inference_reference_share", "Share of the class in the predictions for the held-out"
            " images", ["model", "label"], registry=registry, multiprocess_mode="mostrecent",
        )  # fmt: skip
        self.info = Gauge(
            "inference_model_info", "1 for the served version", ["model", "version"],
            registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.reload_failed = Gauge(
            "inference_reload_failed", "1 if the last reload failed", ["model"],
            registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        refusals = Counter(
            "http_refusals", "Requests refused for their token (401), site (403) or host (421)",
            ["status"], registry=registry,
        )  # fmt: skip
        self._refusals = {status: refusals.labels(str(status)) for status in REFUSALS}
        self._unknown = self.latency.labels("", "404")

    def count_refusal(self, status: int) -> None:
        """Count a request that access.py has refused."""
        self._refusals[status].inc()

    def observe_unknown(self, latency_s: float) -> None:
        """Record a request for an unknown model, with an empty name: any client can invent one."""
        self._unknown.observe(latency_s)

    def exposition(self) -> bytes:
        """Return the metrics of all workers in Prometheus's text format."""
        if METRICS_FOLDER not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)
        return generate_latest(together)


class ModelMetrics:
    """The metrics of one version of a model.

    labels: the names of the classes, by output. reference: what drift is measured from, or None.
    """

    def __init__(
        self,
        metrics: Metrics,
        name: str,
        version: str,
        labels: Mapping[str, Sequence[str]],
        reference: Reference | None,
    ) -> None:
        self._latency = {status: metrics.latency.labels(name, str(status)) for status in STATUSES}
        self._batch = metrics.batch.labels(name)
        self._alarms, self._rank = metrics.alarms.labels(name), metrics.rank.labels(name)
        self._alarm_time = metrics.alarm_time.labels(name)
        self._rank.set(math.nan)
        self._alarm_time.set(math.nan)
        self._info = metrics.info.labels(name, version)
        self._info.set(1)
        self.reload_failed = metrics.reload_failed.labels(name)
        self._drift = Drift(reference) if reference else None
        # The output whose classes are counted: the first that has any, unless drift says which.
        self._classes = reference.output if reference else next(iter(labels), None)
        classes = labels[self._classes] if self._classes else []
        shares = reference.shares if reference else np.full(len(classes), math.nan)
        for label, share in zip(classes, shares, strict=True):
            metrics.shares.labels(name, label).set(share)
        self._predictions = [metrics.predictions.labels(name, label) for label in classes]

    def end(self) -> None:
        """Record that the version is replaced; its last requests count for neither drift nor
        predictions."""
        self._info.set(0)
        self._drift = self._classes = None

    def observe_requests(self, status: int, latencies_s: list[float]) -> None:
        """Record the latencies of inference requests by HTTP status.

        One call per batch is several times faster than one per request.
        """
        for latency_s in latencies_s:
            self._latency[status].observe(latency_s)

    def observe_batch(self, rows: int, outputs: Arrays, drift: bool = True) -> None:
        """Record a batch by its outputs and, if `drift` is true, measure drift by it."""
        self._batch.observe(rows)
        if self._classes:
            values = outputs[self._classes]
            if drift and self._drift and self._drift.add(values):
                self._rank.set(self._drift.rank)
                if self._drift.alarms:
                    self._alarms.inc(self._drift.alarms)
                    self._alarm_time.set(time.time())
            best = values.argmax(axis=-1).ravel()
            counts = np.bincount(best, minlength=len(self._predictions)).tolist()
            for prediction, count in zip(self._predictions, counts, strict=True):
                if count:
                    prediction.inc(count)
