"""Starts the stage `train`: the trainers, which train while Prefect starts."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Semaphore
from typing import Any

from models import NETWORKS
from pipeline.core import files
from pipeline.core.flows import run_flow
from pipeline.core.params import load_params, own_params
from pipeline.core.provenance import Provenance
from pipeline.data.load import verified_md5
from pipeline.tracking.record import Record
from pipeline.train.finished import Finished, find_finished

Trainer = tuple[subprocess.Popen[str], Record]


class Trainers:
    """The trainers: of each network, the process that trains it and the record of its execution.

    finished: the networks whose training an earlier run of the stage has kept. interrupted: whether
    no more are to start.
    """

    def __init__(self, provenance: Provenance) -> None:
        """Start the first of them, to train with the provenance's parameters."""
        self._provenance = provenance
        found = {key: find_finished(key, provenance) for key in NETWORKS}
        self.finished: dict[str, Finished] = {key: its for key, its in found.items() if its}
        places = at_a_time(max(self.params(key).get("threads", 1) for key in NETWORKS))
        self.interrupted = False
        waiting = [key for key in NETWORKS if key not in self.finished]
        self._new = {key: self._start(key) for key in waiting[:places]}
        self._free = Semaphore(places - len(self._new))

    def params(self, key: str) -> dict[str, Any]:
        """Return the parameters with which a network is trained."""
        return own_params(key, self._provenance.params)

    @contextmanager
    def place(self, key: str) -> Iterator[None]:
        """Wait for one of the places for trainers that run at a time, unless the network's trainer
        has had one from the start; free it at the end of the block."""
        if key not in self._new:
            self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    def take(self, key: str) -> Trainer | None:
        """Return a network's trainer; if it has none or has been taken before, start another, or
        after an interruption none."""
        if key not in self._new and self.interrupted:
            return None
        return self._new.pop(key, None) or self._start(key)

    def end(self) -> None:
        """End the trainers that have not been taken."""
        for process, _ in self._new.values():
            with process:
                process.kill()

    def _start(self, key: str) -> Trainer:
        params = json.dumps(self.params(key))
        process = subprocess.Popen(  # "nice": Prefect, which starts in the meantime, comes first
            ["nice", sys.executable, "-m", "pipeline.train.trainer", key, params],
            cwd=files.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process, Record.start(key, self._provenance)


def at_a_time(threads: int) -> int:
    """Return how many networks of so many threads are trained at a time: as many as there are cores
    for, at least one."""
    return max(1, (os.cpu_count() or 1) // threads)


def run() -> None:
    """Train and compare all networks; see `run_flow`."""
    provenance = Provenance.take("train", load_params().train, verified_md5())
    trainers = Trainers(provenance)
    try:
        run_flow("pipeline.train.flow:train_networks", provenance, trainers)
    finally:
        trainers.end()
