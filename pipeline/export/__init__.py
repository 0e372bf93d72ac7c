"""Exports every network to ONNX: the stage `export`."""
