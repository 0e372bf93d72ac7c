"""Serves the exported network over the Open Inference Protocol; needs neither torch nor mlflow."""
