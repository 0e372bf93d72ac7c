"""Runs the exported network with ONNX Runtime: arrays in, arrays out. Knows nothing of HTTP."""

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime as ort


class Engine:
    """The one model file that is served.

    name: the network's name, as the file gives it.
    version: the first 12 digits of the file's SHA-256, so that an answer says which bytes gave it.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load the file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a model that ONNX Runtime can run on images.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found: run `dvc repro export`")
        content = path.read_bytes()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # the default is the host's cores, not ours
        try:
            self._session = ort.InferenceSession(content, options, ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a type of its own for each cause
            raise ValueError(f"{path} is not a usable ONNX model: {error}") from error
        tensors = [(node.name, node.type, node.shape[1:]) for node in self._session.get_inputs()]
        if tensors != [("images", "tensor(uint8)", [28, 28])]:
            raise ValueError(f"{path} must take images uint8 [-1, 28, 28], but takes {tensors}")
        self.name: str = self._session.get_modelmeta().graph_name
        self.version = hashlib.sha256(content).hexdigest()[:12]

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return logits and probabilities, (N, 10) float32, for images (N, 28, 28) uint8."""
        names = [node.name for node in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {"images": images}), strict=True))
