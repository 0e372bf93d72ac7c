"""The stages: MNIST → two trained networks → one ONNX file → its certificate."""

import os

# Prefect and MLflow send usage statistics from their import on, unless this says no.
os.environ.setdefault("DO_NOT_TRACK", "true")
