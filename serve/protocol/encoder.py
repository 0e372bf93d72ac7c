"""Encodes arrays as responses of the Open Inference Protocol.

By Triton's classification extension, an output may be the classes with the highest values.

Source: https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from serve.protocol.messages import InferenceResponse, OutputTensor, OutputTensorParameters
from serve.protocol.numbers import RequestError
from serve.protocol.request import Request, Wanted
from serve.protocol.tensors import Arrays, Tensor

MAX_BYTES = 2**24  # of an output; as JSON, a number takes eight times as much memory
encode_json = msgspec.json.Encoder().encode


class Encoder:
    """Encodes the responses of one model; labels: the names of the classes, by output."""

    def __init__(
        self, outputs: Sequence[Tensor], batches: bool, labels: Mapping[str, Sequence[str]]
    ) -> None:
        self._datatypes = {tensor.name: tensor.datatype.name for tensor in outputs}
        self._batches = batches
        self._labels = labels

    def encode(
        self, name: str, version: str, request: Request, arrays: Arrays
    ) -> tuple[bytes, int | None]:
        """Return a body with the requested outputs, and the length in bytes of its JSON if raw
        tensors follow, else None.

        Raises:
            RequestError: an output is too large.
        """
        outputs, raw = [], []
        for wanted in request.outputs:
            values = arrays[wanted.name]
            if values.nbytes > (MAX_BYTES if wanted.binary else MAX_BYTES // 8):
                raise RequestError(f"{wanted.name} would have {values.nbytes} bytes: ask for less")
            datatype = self._datatypes[wanted.name]
            if wanted.classes:
                datatype, values = "BYTES", self._classify(wanted, values)
            tensor = OutputTensor(wanted.name, datatype, values.shape)
            if wanted.binary:
                content = _strings(values) if datatype == "BYTES" else values.tobytes()
                tensor.parameters = OutputTensorParameters(len(content))
                raw.append(content)
            else:
                tensor.data = values.ravel().tolist()
            outputs.append(tensor)
        head = encode_json(InferenceResponse(name, version, outputs, request.id))
        return (head + b"".join(raw), len(head)) if raw else (head, None)

    def _classify(self, wanted: Wanted, values: np.ndarray) -> np.ndarray:
        """Return the highest values of each row as strings VALUE:INDEX, with :LABEL if there is
        one, (N, classes) or, without a batch axis, (classes,)."""
        rows = values.reshape(len(values), -1) if self._batches else values.reshape(1, -1)
        indices = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, : wanted.classes]
        labels = [f":{label}" for label in self._labels.get(wanted.name, ())]
        kind = "f" if values.dtype.kind == "f" else "d"
        strings = [
            [f"{row[i]:{kind}}:{i}{labels[i] if i < len(labels) else ''}" for i in best]
            for row, best in zip(rows, indices, strict=True)
        ]
        return np.array(strings if self._batches else strings[0], object)


def _strings(values: np.ndarray) -> bytes:
    """Return strings as BYTES has them: each with its length before it, 4 bytes, little-endian."""
    encoded = [text.encode() for text in values.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
