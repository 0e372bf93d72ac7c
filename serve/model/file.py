"""Reads an ONNX file without running it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from onnx.external_data_helper import uses_external_data


class ModelFile(NamedTuple):
    """An ONNX file.

    path: where it was. loops: whether its input may say for how long it runs. name: the graph's.
    version: the first 12 digits of the content's SHA-256.
    """

    path: Path
    content: bytes
    loops: bool
    name: str
    version: str
    metadata: dict[str, str]


def read_model(path: Path) -> ModelFile:
    """Read an ONNX file.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is not an ONNX model, or it refers to other files, which might be any, and of
            which the version would say nothing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: run `dvc repro export`")
    content = path.read_bytes()  # once: the file may be replaced at any moment
    version = hashlib.sha256(content).hexdigest()[:12]
    try:
        model = onnx.load_from_string(content)
        if any(uses_external_data(tensor) for tensor in find(onnx.TensorProto, model)):
            raise ValueError("its weights are in other files: export them into one")
    except Exception as error:  # protobuf raises many types
        raise unusable(path, error) from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    loops = any(node.op_type in ("Loop", "Scan") for node in find(onnx.NodeProto, model))
    return ModelFile(path, content, loops, model.graph.name, version, metadata)


def find(kind: type[object], message: Any) -> Iterator[Any]:
    """Yield every message of a kind in a message, those in its subgraphs and functions too."""
    if isinstance(message, kind):
        yield message
    for field, value in message.ListFields():
        if field.message_type:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from find(kind, part)


def unusable(path: Path, error: Exception) -> ValueError:
    """Return the error for a file that cannot be served."""
    return ValueError(f"{path} is not a usable ONNX model: {error}")
