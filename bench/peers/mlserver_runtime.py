"""Serves the model with MLServer, as a custom runtime like those in its documentation."""

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxRuntime(MLModel):
    """Runs the ONNX file at the `uri` of the settings."""

    async def load(self) -> bool:
        """Load the file."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run one inference request."""
        images = NumpyCodec.decode_input(payload.inputs[0]).astype("uint8")
        names = ["logits", "probabilities"]
        values = self.session.run(names, {"images": images})
        outputs = [NumpyCodec.encode_output(n, v) for n, v in zip(names, values, strict=True)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
