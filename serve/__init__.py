"""Serves ONNX models over the Open Inference Protocol; needs neither torch nor mlflow."""

import os

__version__ = "0.2.0"

# ONNX Runtime reads it when it is imported; else it looks up a host of Microsoft's.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
