"""Exports every network to ONNX: `python -m pipeline.export`.

Reads the weights, metrics and provenance of `train`; writes artifacts/export/<key>.onnx.
"""

from pipeline.core.stage import main

if __name__ == "__main__":
    main("export", "pipeline.export.build:write_models", __doc__)
