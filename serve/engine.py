"""Runs the exported network with ONNX Runtime: arrays in, arrays out. Knows nothing of HTTP."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

OUTPUTS = ["logits", "probabilities"]
UNITS = "z1"  # the first layer before its ReLU, for drift.py


class Engine:
    """The one model file that is served.

    name: the network's name, as the file gives it.
    version: the first 12 digits of the file's SHA-256, so that an answer says which bytes gave it.
    metadata: what export wrote into the file.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load the file and let it pass its own self-test.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: ONNX Runtime cannot run it, its tensors are not ours, or it fails the test.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found: run `dvc repro export`")
        content = path.read_bytes()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # the default is the host's cores, not ours
        try:
            model = onnx.load_from_string(content)
            units = onnx.helper.make_tensor_value_info(UNITS, onnx.TensorProto.FLOAT, None)
            model.graph.output.append(units)
            watched = model.SerializeToString()
            self._session = ort.InferenceSession(watched, options, ["CPUExecutionProvider"])
        except Exception as error:  # protobuf and ONNX Runtime raise a type for each cause
            raise ValueError(f"{path} is not a usable ONNX model: {error}") from error
        tensors = [(node.name, node.type, node.shape[1:]) for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]
        if tensors != [("images", "tensor(uint8)", [28, 28])] or self._outputs[:2] != OUTPUTS:
            raise ValueError(
                f"{path} must take images uint8 [-1, 28, 28] and give {OUTPUTS}, "
                f"but takes {tensors} and gives {self._outputs}"
            )
        self.name: str = model.graph.name
        self.version = hashlib.sha256(content).hexdigest()[:12]
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        self.self_test()

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the tensors for images (N, 28, 28) uint8.

        logits, probabilities: (N, 10) float32; z1: (N, 128) float32, the first layer before ReLU.
        """
        values = self._session.run(self._outputs, {"images": images})
        return dict(zip(self._outputs, values, strict=True))

    def self_test(self) -> None:
        """Answer the images that export stored with its own answers.

        Raises:
            ValueError: there is no test in the file, or an answer is another.
        """
        try:
            test = json.loads(self.metadata["self_test"])
            images = np.array(test["images"], np.uint8).repeat(28 * 28).reshape(-1, 28, 28)
            expected = np.array(test["logits"])
            difference = np.abs(self.infer(images)["logits"] - expected).max()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the model has no self-test that can be run: {error}") from error
        if not difference <= 1e-3:
            raise ValueError(f"the model fails its self-test: logits differ by {difference}")
