"""Checks that every exported network gives PyTorch's answers: `python -m pipeline.certify`.

Reads the weights, the ONNX files and the test images; starts `python -m serve` on a free port;
writes certificate.json and certificate.png to artifacts/certify/, and fails if an answer differs.
"""

from pipeline.core.stage import main

if __name__ == "__main__":
    main("certify", "pipeline.certify.certificate:write_certificate", __doc__)
