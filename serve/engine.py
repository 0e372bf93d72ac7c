"""Runs the exported network with ONNX Runtime: arrays in, arrays out; independent of HTTP."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from serve.drift import read_statistics

OUTPUTS = ["logits", "probabilities"]
CLASSES = 10


class Engine:
    """A loaded model file.

    name: the network's name, from the file.
    version: the first 12 digits of the file's SHA-256, which identify the model in each response.
    metadata: the metadata that `export` wrote into the file.
    statistics: what drift is measured by, or None.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load the file and run its self-test.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: ONNX Runtime cannot load it, its inputs, outputs or metadata are not those
                of such a model, or it fails its self-test.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found: run `dvc repro export`")
        content = path.read_bytes()  # once: what is hashed is what runs
        self.version = hashlib.sha256(content).hexdigest()[:12]
        try:
            self._load(content, threads)
            self._check_outputs()
            self.self_test()
        except Exception as error:  # protobuf, ONNX Runtime and NumPy raise many types
            raise ValueError(f"{path} is not a usable ONNX model: {error}") from error

    def _load(self, content: bytes, threads: int) -> None:
        model = onnx.load_from_string(content)
        self.name: str = model.graph.name
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        self.statistics = read_statistics(self.metadata)
        if self.statistics:
            units = onnx.helper.make_tensor_value_info(
                self.statistics.tensor, onnx.TensorProto.FLOAT, None
            )
            model.graph.output.append(units)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # the default ignores a container's limits
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"]
        )
        self._outputs = [node.name for node in self._session.get_outputs()]

    def _check_outputs(self) -> None:
        sizes = dict.fromkeys(OUTPUTS, CLASSES)
        if self.statistics:
            sizes[self.statistics.tensor] = len(self.statistics.mean)
        tensors = [(node.name, node.type, node.shape[1:]) for node in self._session.get_inputs()]
        if tensors != [("images", "tensor(uint8)", [28, 28])] or self._outputs != list(sizes):
            raise ValueError(
                f"it must have the input images uint8 [-1, 28, 28] and the outputs {OUTPUTS}, "
                f"got {tensors} and {self._outputs}"
            )
        for count in (1, 2):  # a graph may have a fixed batch size
            for name, values in self.infer(np.zeros((count, 28, 28), np.uint8)).items():
                expected = (count, sizes[name])
                if values.shape != expected or values.dtype != np.float32:
                    raise ValueError(
                        f"{name} of {count} images must be float32 {expected}, "
                        f"got {values.dtype} {values.shape}"
                    )

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on images (N, 28, 28) uint8.

        Returns:
            By name, logits and probabilities (N, 10) float32 and, if there are statistics, the
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
            expected = np.array(test["logits"], np.float64).reshape(len(images), CLASSES)
            difference = np.abs(self.infer(images)["logits"] - expected).max()
        except Exception as error:
            raise ValueError(f"the model has no valid self-test: {error}") from error
        if not difference <= 1e-3:
            raise ValueError(f"the model fails its self-test: logits differ by {difference} > 1e-3")
