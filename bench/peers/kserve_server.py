"""Serves the model with KServe's SDK, as a custom model like those in its documentation."""

import sys
from typing import Any

import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

NAMES = ["logits", "probabilities"]


class OnnxModel(Model):
    """Runs one ONNX file."""

    def __init__(self, path: str) -> None:
        super().__init__("batchnorm_mlp")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(path, options)
        self.ready = True

    async def predict(self, payload: InferRequest, *_: Any) -> InferResponse:
        """Run one inference request."""
        images = payload.inputs[0].as_numpy()
        outputs = []
        for name, value in zip(NAMES, self.session.run(NAMES, {"images": images}), strict=True):
            output = InferOutput(name, list(value.shape), "FP32")
            output.set_data_from_numpy(value, binary_data=False)
            outputs.append(output)
        return InferResponse(payload.id or "", self.name, outputs)


if __name__ == "__main__":
    server = ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1)
    server.start([OnnxModel(sys.argv[2])])
