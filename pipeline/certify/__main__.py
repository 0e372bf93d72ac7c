"""Checks that every exported network gives PyTorch's answers: `python -m pipeline.certify`.

Reads the weights, the ONNX files and the test images; starts `python -m serve` on a free port;
writes certificate.json and certificate.png to artifacts/certify/, and fails if an answer differs.
"""

import argparse

from pipeline.core.stage import run_stage


def main() -> None:
    """Certify every exported network, or compare Triton's answers for the deployed one."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.certify", description=__doc__)
    parser.add_argument(
        "--triton",
        action="store_true",
        help="compare a real Triton's answers instead",
    )
    if parser.parse_args().triton:
        run_stage("certify", "pipeline.certify.triton:compare_triton")
    else:
        run_stage("certify", "pipeline.certify.certificate:write_certificate")


if __name__ == "__main__":
    main()
