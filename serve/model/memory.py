"""The memory of a sample, which the workers share: its layout, and which slots are whose."""

import fcntl
import logging
import os
from contextlib import suppress
from typing import Protocol

import numpy as np

from serve.protocol.tensors import Tensor

MAX_BYTES = 2**24  # of a sample as it is sent, as of an output in encoder.py
# The state of a worker; epoch: when the sample was last emptied, as far as the worker knows.
WORKER = [("version", "S12"), ("epoch", "f8"), ("began", "f8"), ("rows", "i8")]
SLOT = [("sequence", "i8"), ("key", "f8"), ("id", "u8")]  # before the row; the key is 0 if empty
log = logging.getLogger("serve")


class Sampled(Protocol):
    """What a sample must know of an engine."""

    name: str
    batches: bool
    inputs: list[Tensor]
    outputs: list[Tensor]


def row_of(engine: Sampled) -> np.dtype:
    """Return what a row of the sample consists of, a field per tensor."""
    tensors = [(f"inputs/{tensor.name}", tensor) for tensor in engine.inputs]
    tensors += [(f"outputs/{tensor.name}", tensor) for tensor in engine.outputs]
    fields = [(name, tensor.datatype.dtype, tensor.shape[1:]) for name, tensor in tensors]
    return np.dtype([*fields, ("time", "f8"), ("label", "i8")])


def layout(engine: Sampled, rows: int, workers: int) -> np.dtype:
    """Return the layout of the memory: its epoch, and the state and the slots of each worker."""
    worker, slot = np.dtype(WORKER, align=True), np.dtype(SLOT + row_of(engine).descr, align=True)
    parts = [("epoch", "f8"), ("workers", worker, workers), ("slots", slot, workers * rows)]
    return np.dtype(parts, align=True)


def allocate(engine: Sampled, rows: int, workers: int) -> str | None:
    """Allocate the memory for a model's sample, for as long as this process lives.

    Returns:
        The path by which `Sample` opens it, or None if the model cannot be sampled.

    Raises:
        ValueError: the sample would be too large.
        OSError: there is not enough memory.
    """
    if not engine.batches or any(-1 in t.shape[1:] for t in engine.inputs + engine.outputs):
        log.warning("%s is not sampled: its rows have no fixed size", engine.name)
        return None
    size = row_of(engine).itemsize
    if rows * size > MAX_BYTES:
        raise ValueError(
            f"--sample must be at most {MAX_BYTES // size} for {engine.name}, got {rows}: "
            f"a row has {size} bytes, and a sample at most {MAX_BYTES}"
        )
    file, length = os.memfd_create(engine.name), layout(engine, rows, workers).itemsize
    os.posix_fallocate(file, 0, length)  # or a write could end the process once memory is full
    log.info("%s: a sample of %d rows takes %.1f MB", engine.name, rows, length / 1e6)
    return f"/proc/{os.getpid()}/fd/{file}"


def lock_any(file: int, workers: int) -> int:
    """Return a worker's place that no other process has; the lock ends with this process."""
    for place in range(workers):
        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            return place
    raise OSError(f"the sample's places are taken by {workers} other workers")
