"""Answers the Open Inference Protocol with the exported network; needs neither torch nor mlflow."""
