"""Checks that each exported network gives PyTorch's answers: `python -m pipeline.certify`.

Reads the weights, the ONNX files and the test images; starts `python -m serve` on a free port;
writes artifacts/certificate.json and its figure, and fails if an answer differs. With --triton, a
real Triton serves the deployed network instead, over HTTP and gRPC, and the comparison is in
artifacts/triton.json.
"""

import argparse

from pipeline.core.stage import run_stage


def main() -> None:
    """Certify the deployed network, or compare Triton's answers."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.certify", description=__doc__)
    parser.add_argument("--triton", action="store_true", help="compare Triton's answers instead")
    if parser.parse_args().triton:
        run_stage("certify", "pipeline.certify.triton:compare_triton")
    else:
        run_stage("certify", "pipeline.certify.certificate:write_certificate")


if __name__ == "__main__":
    main()
