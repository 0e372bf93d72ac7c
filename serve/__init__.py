"""Serves the exported network over the Open Inference Protocol; needs neither torch nor mlflow."""

import os

# ONNX Runtime reads it when it is imported; else it looks up a host of Microsoft's.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
