"""Runs the exported network with ONNX Runtime: arrays in, arrays out; independent of HTTP."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

OUTPUTS = ["logits", "probabilities"]


class Engine:
    """A loaded model file.

    name: the network's name, from the file.
    version: the first 12 digits of the file's SHA-256, which identify the model in each response.
    metadata: the metadata that `export` wrote into the file.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load the file and run its self-test.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: ONNX Runtime cannot load it, it has other inputs or outputs, or it fails its
                self-test.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found: run `dvc repro export`")
        content = path.read_bytes()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # the default ignores a container's limits
        try:
            model = onnx.load_from_string(content)
            self.metadata = {entry.key: entry.value for entry in model.metadata_props}
            self.drift_tensor = self.metadata.get("drift_tensor")
            if self.drift_tensor:
                units = onnx.helper.make_tensor_value_info(
                    self.drift_tensor, onnx.TensorProto.FLOAT, None
                )
                model.graph.output.append(units)
            watched = model.SerializeToString()
            self._session = ort.InferenceSession(watched, options, ["CPUExecutionProvider"])
        except Exception as error:  # protobuf and ONNX Runtime raise many types
            raise ValueError(f"{path} is not a usable ONNX model: {error}") from error
        tensors = [(node.name, node.type, node.shape[1:]) for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]
        if tensors != [("images", "tensor(uint8)", [28, 28])] or self._outputs[:2] != OUTPUTS:
            raise ValueError(
                f"{path} must have the input images uint8 [-1, 28, 28] and the outputs {OUTPUTS}, "
                f"got {tensors} and {self._outputs}"
            )
        self.name: str = model.graph.name
        self.version = hashlib.sha256(content).hexdigest()[:12]
        self.self_test()

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on images (N, 28, 28) uint8.

        Returns:
            By name, logits and probabilities (N, 10) float32 and, if the metadata names one, the
            drift tensor (N, units) float32.
        """
        values = self._session.run(self._outputs, {"images": images})
        return dict(zip(self._outputs, values, strict=True))

    def self_test(self) -> None:
        """Compare the logits of the images stored in the file with the logits stored there.

        Raises:
            ValueError: the file has no valid self-test, or a logit differs by more than 1e-3.
        """
        try:
            test = json.loads(self.metadata["self_test"])
            images = np.array(test["images"], np.uint8).repeat(28 * 28).reshape(-1, 28, 28)
            expected = np.array(test["logits"])
            difference = np.abs(self.infer(images)["logits"] - expected).max()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the model has no valid self-test: {error}") from error
        if not difference <= 1e-3:
            raise ValueError(f"the model fails its self-test: logits differ by {difference} > 1e-3")
