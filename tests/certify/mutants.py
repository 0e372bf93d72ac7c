"""Breaks the export in a dozen ways and shows what catches each: `python -m tests.certify.mutants`.

The exit status is 1 if nothing catches a mutant.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from onnx import ModelProto
from tqdm import tqdm

from models import BatchNormMLP
from pipeline.certify.backends import file_logits, pytorch_logits
from pipeline.certify.comparison import compare
from pipeline.certify.server import CLIENTS, running_server, served_logits
from pipeline.certify.stress_images import extreme_images
from pipeline.core.params import load_params
from pipeline.data.load import load_dataset
from pipeline.export.build import load_network
from tests.certify.broken import MUTANTS, NOT_EXPORTED, export

CHECKS = ["self-test", "file", "optimized file", "JSON", "binary", "extremes", "same bytes"]


def what_catches(
    name: str, network: BatchNormMLP, images: np.ndarray, limit: float
) -> dict[str, bool | None]:
    """Return whether each of `CHECKS` catches the mutant, None where it does not apply.

    A model that fails its self-test is not served. Exporting again catches only what was changed
    after the export.
    """
    mutant = MUTANTS[name](network, images)
    expected, extremes = pytorch_logits(network, images), extreme_images(network)
    expected_extremes = pytorch_logits(network, extremes)
    allowed = limit * np.maximum(1, np.abs(expected_extremes).max(axis=1, keepdims=True))

    def wrong(logits: np.ndarray) -> bool:
        return not compare(expected, {"": logits}, expected.argmax(1), limit)["passed"]

    with TemporaryDirectory() as folder:
        model = Path(folder) / "mutant.onnx"
        model.write_bytes(to_bytes(mutant))
        difference = np.abs(file_logits(model, extremes, optimize=False) - expected_extremes)
        caught: dict[str, bool | None] = {
            "self-test": False,
            "file": wrong(file_logits(model, images, optimize=False)),
            "optimized file": wrong(file_logits(model, images, optimize=True)),
            "extremes": not (difference <= allowed).all(),
            "same bytes": None,
        }
        if name in NOT_EXPORTED:
            caught["same bytes"] = to_bytes(export(network)) != to_bytes(mutant)
        try:
            with running_server(model) as client:
                for encoding, infer in CLIENTS.items():
                    served = served_logits(infer, client, mutant.graph.name, images, 500)
                    caught[encoding] = wrong(served)
        except ConnectionError:
            caught |= {"self-test": True, "JSON": None, "binary": None}
    return caught


def to_bytes(model: ModelProto) -> bytes:
    """Return the model's file."""
    return model.SerializeToString(deterministic=True)


def main() -> None:
    """Print the table."""
    try:
        network, images = load_network("batchnorm_mlp"), load_dataset().test_images
        limit = load_params().certify.max_abs_difference
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    assert isinstance(network, BatchNormMLP)
    table = {
        name: what_catches(name, network, images, limit) for name in tqdm(MUTANTS, disable=None)
    }
    words = {True: "caught", False: "", None: "–"}
    print(f"\n| what is wrong | {' | '.join(CHECKS)} |")
    print("| --- " * (1 + len(CHECKS)) + "|")
    for name, caught in table.items():
        print(f"| {name} | {' | '.join(words[caught[check]] for check in CHECKS)} |")
    missed = [name for name, caught in table.items() if not any(caught.values())]
    if missed:
        sys.exit(f"error: nothing catches {', '.join(missed)}")


if __name__ == "__main__":
    main()
