"""Serves ONNX models over the Open Inference Protocol.

It never imports torch, and mlflow only to download a model from MLflow.
"""

import os

__version__ = "0.2.0"

# ONNX Runtime reads it when it is imported; else it looks up a host of Microsoft's.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
