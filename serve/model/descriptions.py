"""Describes models to clients: their metadata, configuration and state.

Source: Triton's model configuration,
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from typing import Any

from serve.model.engine import Engine
from serve.protocol.messages import MAX_ROWS
from serve.protocol.tensors import Tensor

PLATFORM = "onnxruntime_onnx"


def model_metadata(engine: Engine) -> dict[str, Any]:
    """Return the response of GET /v2/models/{name}; its parameters are the file's short metadata,
    such as the test accuracy and the digest of the weights, and the names of the classes."""
    return {
        "name": engine.name,
        "versions": [engine.version],
        "platform": PLATFORM,
        "inputs": [tensor.describe() for tensor in engine.inputs],
        "outputs": [tensor.describe() for tensor in engine.outputs],
        "parameters": {
            name: value
            for name, value in engine.metadata.items()
            if len(value) <= 100 or name == "labels"
        },
    }


def model_config(engine: Engine) -> dict[str, Any]:
    """Return the response of GET /v2/models/{name}/config, in which shapes have no batch axis."""
    first = 1 if engine.batches else 0

    def describe(tensor: Tensor) -> dict[str, Any]:
        datatype = f"TYPE_{tensor.datatype.name}"
        return {"name": tensor.name, "data_type": datatype, "dims": [*tensor.shape[first:]]}

    return {
        "name": engine.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": MAX_ROWS if engine.batches else 0,
        "input": [describe(tensor) for tensor in engine.inputs],
        "output": [describe(tensor) for tensor in engine.outputs],
    } | ({"dynamic_batching": {}} if engine.batches else {})


def index_entry(engine: Engine, ready: bool) -> dict[str, str]:
    """Return a model's entry in the response of POST /v2/repository/index."""
    state = "READY" if ready else "UNAVAILABLE"
    return {"name": engine.name, "version": engine.version, "state": state, "reason": ""}
