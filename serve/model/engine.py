"""Runs an ONNX file with ONNX Runtime: arrays in, arrays out."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx.external_data_helper import uses_external_data

from serve.model.drift import read_reference
from serve.protocol.tensors import Arrays, Tensor, read_tensor

NAME = re.compile(r"[\w.-]+")
TOLERANCE = 1e-3  # of a self-test
SLOW_S = 0.005  # of a run, after which the next one has a thread
log = logging.getLogger("serve")


class Engine:
    """A loaded model.

    name: the given name, or else the graph's.
    version: the first 12 digits of the file's SHA-256, which identify the model in each response.
    batches: whether the first axis of every tensor is a batch of rows that do not depend on each
        other. As in Triton, it is if no input or output fixes its size; if these axes have names,
        they must be the same in all inputs.
    labels: the names of the classes, by the output whose last axis has them.
    reference: the held-out images that drift is measured from, or None.
    is_slow: whether the next run may take longer than `SLOW_S`: the last one did, or its input says
        how long it takes, by loops or axes of any size.
    """

    def __init__(self, where: Path | str, content: bytes, name: str | None = None) -> None:
        """Load the content of an ONNX file and run its self-test.

        where: the file's path or registered name, for messages.

        Raises:
            ValueError: it is not an ONNX model, ONNX Runtime cannot load it, it refers to other
                files, which might be any, its metadata are invalid, it cannot run a batch of two,
                or it fails its self-test.
        """
        self.version = hashlib.sha256(content).hexdigest()[:12]
        try:
            self._load(content, name)
            self._try()
            self.self_test()
        except Exception as error:  # protobuf, ONNX Runtime and NumPy raise many types
            raise ValueError(f"{where} is not a usable ONNX model: {error}") from error

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> "Engine":
        """Read and load a file."""
        return cls(path, path.read_bytes(), name)

    def _load(self, content: bytes, name: str | None) -> None:
        model = onnx.load_from_string(content)
        if any(uses_external_data(tensor) for tensor in find(onnx.TensorProto, model)):
            raise ValueError("its weights are in other files: export them into one")
        self.name: str = name or model.graph.name
        if not NAME.fullmatch(self.name):
            raise ValueError(f"its name {self.name!r} cannot be in a path: use --model NAME=PATH")
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # the default ignores a container's limits
        self._session = ort.InferenceSession(content, options, ["CPUExecutionProvider"])
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._names = [node.name for node in outputs]
        self.inputs = [read_tensor(node) for node in inputs]
        self.outputs = [read_tensor(node) for node in outputs]
        tensors, first_axes = self.inputs + self.outputs, {str(node.shape[:1]) for node in inputs}
        self.batches = len(first_axes) == 1 and all(t.shape[:1] == (-1,) for t in tensors)
        axes = {size for t in self.inputs for size in t.shape[1 if self.batches else 0 :]}
        self._is_open = -1 in axes
        loops = any(node.op_type in ("Loop", "Scan") for node in find(onnx.NodeProto, model))
        self.is_slow = self._is_unbounded = loops or self._is_open
        self.labels = read_labels(self.metadata, self.outputs)
        self.reference = read_reference(self.metadata, self.labels)

    def _try(self) -> None:
        """Run one row and, as a graph may fix what its tensors leave open, two; but not if other
        axes are open too, since nobody knows which sizes the graph allows."""
        if self._is_open:
            return
        for rows in (1, 2) if self.batches else (1,):
            for name, values in self.infer(self._filled([0] * rows)).items():
                if self.batches and values.shape[:1] != (rows,):
                    raise ValueError(f"{name} of {rows} rows has the shape {values.shape}")

    def _filled(self, values: list[float]) -> Arrays:
        """Return inputs whose row i is filled with values[i]; axes of any size get size 1.

        Without a batch axis, there must be one value, which fills the inputs.
        """
        filled = {}
        for name, datatype, declared in self.inputs:
            shape = [max(size, 1) for size in declared]
            if self.batches:
                shape[0] = len(values)
            axes = [-1, *[1] * len(shape)][: len(shape)]
            column = np.array(values, datatype.dtype).reshape(axes)
            filled[name] = np.ascontiguousarray(np.broadcast_to(column, shape))
        return filled

    @property
    def classes(self) -> list[str]:
        """The names of the classes: of the output that drift is measured by, or else of the first
        that has any."""
        output = self.reference.output if self.reference else next(iter(self.labels), "")
        return self.labels.get(output, [])

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the model on one array per input; return the outputs by name."""
        start = time.perf_counter()
        values = self._session.run(self._names, inputs)
        self.is_slow = self._is_unbounded or time.perf_counter() - start > SLOW_S
        return dict(zip(self._names, values, strict=True))

    def self_test(self) -> None:
        """Compare the outputs for evenly filled inputs with those stored in the file, if any.

        The metadata `self_test` have, as JSON, a value per row for each input, and the expected
        rows of some outputs.

        Raises:
            ValueError: the self-test is invalid, or a number differs by more than `TOLERANCE`.
        """
        if "self_test" not in self.metadata:
            return
        try:
            test = json.loads(self.metadata["self_test"])
            (rows,) = {tuple(test.pop(tensor.name)) for tensor in self.inputs}
            found = self.infer(self._filled(list(rows)))
            differences = [
                found[name] - np.array(expected, np.float64).reshape(found[name].shape)
                for name, expected in test.items()
            ]
            difference = np.max([np.abs(array).max() for array in differences])  # NaN if one is
        except Exception as error:
            raise ValueError(f"the model has no valid self-test: {error!r}") from error
        if not difference <= TOLERANCE:
            raise ValueError(f"the model fails its self-test by {difference} > {TOLERANCE}")

    def passes_self_test(self) -> bool:
        """Return whether the self-test passes, and log why not."""
        try:
            self.self_test()
        except ValueError as error:
            log.error("%s is not ready: %s", self.name, error)
            return False
        return True


def find(kind: type[object], message: Any) -> Iterator[Any]:
    """Yield every message of a kind in a message, those in its subgraphs and functions too."""
    if isinstance(message, kind):
        yield message
    for field, value in message.ListFields():
        if field.message_type:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from find(kind, part)


def read_labels(metadata: dict[str, str], outputs: list[Tensor]) -> dict[str, list[str]]:
    """Return the names of the classes in a model's metadata, by output.

    Raises:
        ValueError: they are not as many as the output's last axis is long.
    """
    labels = json.loads(metadata.get("labels", "{}"))
    sizes = {tensor.name: tensor.shape[-1] for tensor in outputs if tensor.shape}
    for name, names in labels.items():
        if name not in sizes or len(names) != sizes[name]:
            raise ValueError(f"labels has {len(names)} names for {name!r}, outputs are {sizes}")
    return {str(name): [str(label) for label in names] for name, names in labels.items()}
