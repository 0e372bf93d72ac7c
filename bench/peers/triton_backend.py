"""Runs ONNX files for Triton's Python backend, which imports this file; see triton.py."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    """A model of the repository."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model's file."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self._session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        self._inputs = [node.name for node in self._session.get_inputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run each request alone."""
        responses = []
        for request in requests:
            arrays: dict[str, np.ndarray] = {
                name: triton.get_input_tensor_by_name(request, name).as_numpy()
                for name in self._inputs
            }
            names = list(request.requested_output_names())
            values = self._session.run(names, arrays)
            tensors = [triton.Tensor(*pair) for pair in zip(names, values, strict=True)]
            responses.append(triton.InferenceResponse(tensors))
        return responses
