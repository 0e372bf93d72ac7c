"""Checks that the deployed network gives PyTorch's answers: `python -m pipeline.certify`.

Reads the weights, model.onnx and the test images; starts `python -m serve` on a free port; writes
artifacts/certificate.json and its figure, and fails if an answer differs.
"""

from pipeline.core.stage import main

if __name__ == "__main__":
    main("certify", "pipeline.certify.certificate:write_certificate", __doc__)
