"""Exports the deployed network to ONNX: the stage `export`."""
