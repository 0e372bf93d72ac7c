"""Prints the result of the main job in five lines: `python -m pipeline.promote.summary`."""

import sys

from models import NETWORKS
from pipeline.core import files


def main() -> None:
    """Print the accuracies, the certificate, the model's alias and why, and what to do next."""
    try:
        accuracy = files.read_json(files.ACCURACY, "train")
        certificate = files.read_json(files.CERTIFICATE, "certify")
        promotion = files.read_json(files.PROMOTION, "promote")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    accuracies = [f"{NETWORKS[key].title} {value:.2%}" for key, value in accuracy.items()]
    reason = promotion["reason"].partition(":")[0]
    rows = {
        "test accuracy": ", ".join(accuracies),
        "certificate": f"{max(certificate['flipped'].values())} of {certificate['images']:,} served answers "
        "differ from PyTorch's",
        promotion["alias"]: f"version {promotion['version']}: {reason}",
        "make ui": "to compare the runs in MLflow",
        "make serve": "to draw a digit and see the answers",
    }
    print()
    for name, text in rows.items():
        print(f"{name:<14} {text}")


if __name__ == "__main__":
    main()
