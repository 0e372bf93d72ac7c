"""Starts the stage `train`: the trainers, which load PyTorch and the data while Prefect starts."""

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

from models import NETWORKS
from pipeline.core import files
from pipeline.core.flows import run_flow
from pipeline.core.params import load_params
from pipeline.core.provenance import Provenance
from pipeline.data.load import verified_md5

Answers = list[tuple[int, int]]  # the class of each test image, and the predicted one


class Trainers:
    """The trainer of each network, a process that waits for its task to begin."""

    def __init__(self, params: dict[str, Any]) -> None:
        """Start them all, to train with the section `train` of params.yaml."""
        self._params = json.dumps(params)
        self._waiting = {key: self._start(key) for key in NETWORKS}

    def begin(self, key: str) -> subprocess.Popen[str]:
        """Let a network's trainer begin; if it has begun before, start another."""
        trainer = self._waiting.pop(key, None) or self._start(key)
        assert trainer.stdin
        with suppress(BrokenPipeError):  # it has ended; what it printed says why
            trainer.stdin.write("begin\n")
            trainer.stdin.close()
        return trainer

    def _start(self, key: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.train.trainer", key, self._params],
            cwd=files.ROOT,
            stdin=subprocess.PIPE,  # which closes if this process ends
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def run() -> None:
    """Train and compare all networks; see `run_flow`."""
    provenance = Provenance.take("train", load_params().train, verified_md5())
    trainers = Trainers(provenance.params)
    run_flow("pipeline.train.flow:train_networks", provenance, trainers)
