"""Serves ONNX models over the Open Inference Protocol.

It never imports torch, and mlflow only to download a model from MLflow.
"""

import os

__version__ = "0.2.0"

# Libraries read these when they are imported. ONNX Runtime would look up a host of Microsoft's;
# MLflow would retry for minutes, and print a progress bar.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
