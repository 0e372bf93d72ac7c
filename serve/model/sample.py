"""Keeps a uniform random sample of the rows that a model has served, in memory alone.

Each row draws a random key, and the rows with the lowest keys are the sample. So each worker keeps
the lowest of its own rows, and the lowest of all workers' are a sample of what all have served. As
in Li's Algorithm L, a worker does not draw a key per row but how many rows to skip, until the next
one whose key is below the highest of its sample.

The workers share the memory without locks. A worker writes only its own slots, and each slot has a
sequence number, odd while the slot is written, by which readers notice and drop a torn row.

Source: Li, "Reservoir-Sampling Algorithms of Time Complexity O(n(1 + log(N/n)))", 1994,
https://doi.org/10.1145/198429.198435
"""

import hashlib
import heapq
import json
import math
import mmap
import os
import time
from collections.abc import Sequence

import numpy as np
from safetensors.numpy import save

from serve.model.engine import Engine
from serve.model.memory import layout, lock_any, row_of
from serve.protocol.request import Request
from serve.protocol.tensors import Arrays

LABEL_BITS = 32  # of `label` in memory, below the sequence number of the row that it is for


class Sample:
    """A model's sample, as one of the workers adds to it and reads all of it.

    max_bytes: of the tensors that `read` returns.
    """

    def __init__(self, path: str, engine: Engine, rows: int, workers: int) -> None:
        """Open what `allocate` has allocated for the same arguments."""
        file, shape = os.open(path, os.O_RDWR), layout(engine, rows, workers)
        shared = np.ndarray((), shape, mmap.mmap(file, shape.itemsize))
        self._epoch, self._workers, self._slots = (shared[name] for name in shape.names or ())
        place = lock_any(file, workers)
        self._worker = self._workers[place : place + 1]
        self._own = self._slots[place * rows : (place + 1) * rows]
        self._name, self._row, self._most = engine.name, row_of(engine), rows
        self._random = np.random.default_rng()
        self.max_bytes = rows * self._row.itemsize

    def begin(self, version: str) -> None:
        """Sample a version; go on with the sample of a worker that died, if it is of the same."""
        self._version, self._loaded, self._known = version.encode(), time.time(), math.nan
        self._follow()

    def _follow(self) -> None:
        """Begin again if there is another version or epoch."""
        if (epoch := self._epoch.item()) == self._known:
            return
        self._known, worker, own = epoch, self._worker, self._own
        if (worker["version"].item(), worker["epoch"].item()) != (self._version, epoch):
            worker["version"] = b""  # so that nobody reads the slots
            own["key"] = worker["rows"] = 0
            worker["epoch"], worker["began"] = epoch, max(epoch, self._loaded)
            worker["version"] = self._version
        whole = (own["key"] > 0) & (own["sequence"] % 2 == 0)
        keys = np.where(whole, own["key"], 1.0).tolist()
        self._heap = [(-key, slot) for slot, key in enumerate(keys)]  # the highest key first
        heapq.heapify(self._heap)
        self._rows = worker["rows"].item()
        self._next = self._rows + self._skip()

    def _skip(self) -> int:
        """Return how many rows to skip, as their keys are above the highest of the sample."""
        highest = -self._heap[0][0]
        return int(math.log1p(-self._random.random()) / math.log1p(-highest)) if highest < 1 else 0

    def add(
        self, rows: int, batch: Sequence[tuple[Request, object, float]], outputs: Arrays
    ) -> None:
        """Add the rows of a batch: requests, with the time.perf_counter() of their arrival."""
        self._follow()
        first, self._rows = self._rows, self._rows + rows
        self._worker["rows"] = self._rows
        if self._next >= self._rows:
            return
        start = 0  # of the request's rows in the batch
        for request, _, arrival in batch:
            while (row := self._next - first - start) < request.rows:
                slot, key = self._draw()
                values = {f"inputs/{name}": array[row] for name, array in request.inputs.items()}
                values |= {f"outputs/{name}": array[start + row] for name, array in outputs.items()}
                moment = time.time() - (time.perf_counter() - arrival)
                values |= {"key": key, "id": digest(request.id, row), "time": moment}
                self._write(slot, values)
            start += request.rows

    def _draw(self) -> tuple[int, float]:
        """Draw the key of the next row, which replaces that with the highest key; return its slot
        and the key."""
        highest, slot = self._heap[0]
        key = -highest * (1 - self._random.random())
        heapq.heapreplace(self._heap, (-key, slot))
        self._next += 1 + self._skip()
        return slot, key

    def _write(self, slot: int, values: dict[str, object]) -> None:
        sequence = self._own["sequence"][slot].item() | 1
        for name, value in {"sequence": sequence, **values}.items():
            self._own[name][slot] = value
        self._own["sequence"][slot] = sequence + 1

    def _find(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the slots of the sample, in random order, their sequence numbers, and the state of
        the workers that have this version."""
        self._follow()
        sequences = self._slots["sequence"].copy()  # first: whatever is written later has another
        workers, keys = self._workers, self._slots["key"]
        same = (workers["version"] == self._version) & (workers["epoch"] == self._known)
        found = np.flatnonzero(np.repeat(same, self._most) & (keys > 0) & (sequences % 2 == 0))
        found = found[keys[found].argsort()][: self._most]
        return found, sequences[found], workers[same]

    def read(self) -> bytes:
        """Return the sample in the format of safetensors."""
        found, sequences, workers = self._find()
        names = self._row.names or ()
        tensors = {name: np.ascontiguousarray(self._slots[name][found]) for name in names}
        whole = self._slots["sequence"][found] == sequences
        labels = tensors["label"]
        labeled = labels >> LABEL_BITS == sequences
        tensors["label"] = np.where(labeled, labels & (2**LABEL_BITS - 1), -1)
        metadata = {
            "model": self._name,
            "version": self._version.decode(),
            "rows": str(workers["rows"].sum()),
            "began": str(workers["began"].min()),
        }
        return save_sorted({name: values[whole] for name, values in tensors.items()}, metadata)

    def label(self, request: str, row: int, label: int) -> bool:
        """Label a request's row by the index of its class; return whether the sample has it."""
        found, sequences, _ = self._find()
        its = self._slots["id"][found] == digest(request, row)
        self._slots["label"][found[its]] = (sequences[its] << LABEL_BITS) | label
        return bool(its.any())

    def empty(self) -> None:
        """Have each worker begin again."""
        self._epoch[...] = time.time()


def save_sorted(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Return tensors in the format of safetensors, the same bytes for the same values: `save` has
    the metadata in any order."""
    content = save(tensors, metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    head = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + content[end:]


def digest(request: str | None, row: int) -> int:
    """Return 8 bytes of a digest of a request's id and the row, or 0 without an id."""
    if request is None:
        return 0
    text = f"{row} {request}".encode(errors="replace")  # JSON may have lone surrogates
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
