"""Models of other inputs, datatypes and shapes than ours, and requests to them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import parser

from serve.protocol.tensors import DATATYPES, Arrays

HEADER = '<ir_version: 8, opset_import: ["" : 18]>'
MODELS = {
    "two_inputs": """two_inputs
        (float[N, 3] a, float[N, 3] b) => (float[N, 3] sum, float[N, 1] dot) {
        sum = Add (a, b)
        product = Mul (a, b)
        axes = Constant <value_ints = [1]> ()
        dot = ReduceSum (product, axes)
    }""",
    "no_batch": """no_batch (float[2, 3] x) => (float[3, 2] y) { y = Transpose (x) }""",
    "any_length": """any_length (int64[N, L] tokens) => (float[N, L] y) {
        y = Cast <to = 1> (tokens)
    }""",
    "half": """half (float16[N, 4] x) => (float16[N, 4] y) { y = Add (x, x) }""",
    "scalar": """scalar (double x) => (double y) { y = Add (x, x) }""",
    "mask": """mask (bool[N, 2] mask, int32[N, 2] x, int32[N, 2] y) => (int32[N, 2] z) {
        z = Where (mask, x, y)
    }""",
}
INPUTS: dict[str, Arrays] = {
    "two_inputs": {
        "a": np.array([[1, 2, 3], [0.5, -1, 1e-7]], np.float32),
        "b": np.array([[3, 2, 1], [7, 8, 9]], np.float32),
    },
    "no_batch": {"x": np.arange(6, dtype=np.float32).reshape(2, 3)},
    "any_length": {"tokens": np.array([[1, 2, 3, 4]], np.int64)},
    "half": {"x": np.array([[0.1, 1, 2, 30000]], np.float16)},
    "scalar": {"x": np.array(0.1)},
    "mask": {
        "mask": np.array([[True, False]]),
        "x": np.array([[1, 2]], np.int32),
        "y": np.array([[-3, 2**31 - 1]], np.int32),
    },
}


def write(folder: Path, text: str) -> Path:
    """Write a model in ONNX's textual format as a file."""
    model = parser.parse_model(f"{HEADER} {text}")
    path = folder / f"{model.graph.name}.onnx"
    onnx.save(model, path)
    return path


def request(inputs: Arrays, binary: bool = False) -> tuple[bytes, dict[str, str]]:
    """A request as JSON, or with the inputs and outputs as raw bytes; and its headers."""
    names = {np.dtype(d.dtype): d.name for d in DATATYPES.values()}
    raw, tensors = b"", []
    for name, data in inputs.items():
        tensor: dict[str, Any] = {"name": name, "datatype": names[data.dtype], "shape": data.shape}
        if binary:
            tensor["parameters"] = {"binary_data_size": data.nbytes}
            raw += data.tobytes()
        else:
            tensor["data"] = data.tolist() if data.ndim else [data.tolist()]
        tensors.append(tensor)
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": binary}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if binary else {}
    return head + raw, headers
