"""Starts the stage `train`: the trainers, which train while Prefect starts."""

import json
import subprocess
import sys

from models import NETWORKS
from pipeline.core import files
from pipeline.core.flows import run_flow
from pipeline.core.params import load_params
from pipeline.core.provenance import Provenance
from pipeline.data.load import verified_md5
from pipeline.tracking.record import Record

Answers = list[tuple[int, int]]  # the class of each test image, and the predicted one
Trainer = tuple[subprocess.Popen[str], Record]


class Trainers:
    """The trainers: of each network, the process that trains it and the record of its execution."""

    def __init__(self, provenance: Provenance) -> None:
        """Start them all, to train with the provenance's parameters."""
        self._provenance = provenance
        self._new = {key: self._start(key) for key in NETWORKS}

    def take(self, key: str) -> Trainer:
        """Return a network's trainer; if it has been taken before, start another."""
        return self._new.pop(key, None) or self._start(key)

    def end(self) -> None:
        """End the trainers that have not been taken."""
        for process, _ in self._new.values():
            with process:
                process.kill()

    def _start(self, key: str) -> Trainer:
        params = json.dumps(self._provenance.params)
        process = subprocess.Popen(  # "nice": Prefect, which starts in the meantime, comes first
            ["nice", sys.executable, "-m", "pipeline.train.trainer", key, params],
            cwd=files.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process, Record.start(key, self._provenance)


def run() -> None:
    """Train and compare all networks; see `run_flow`."""
    provenance = Provenance.take("train", load_params().train, verified_md5())
    trainers = Trainers(provenance)
    try:
        run_flow("pipeline.train.flow:train_networks", provenance, trainers)
    finally:
        trainers.end()
