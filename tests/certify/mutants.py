"""Breaks the export in a dozen ways and shows what catches each: `python -m tests.certify.mutants`.

The exit status is 1 if nothing catches a mutant.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from models import BatchNormMLP
from pipeline.certify.backends import file_logits, pytorch_logits, served_logits
from pipeline.certify.comparison import compare
from pipeline.certify.server import running_server
from pipeline.certify.stress_images import extreme_images
from pipeline.core.inference import ENCODINGS
from pipeline.core.params import load_params
from pipeline.data.load import load_dataset
from pipeline.export.build import load_network
from pipeline.export.graph import float64_logits, is_export, self_test
from serve.model.engine import Engine
from tests.certify.broken import MUTANTS, NOT_EXPORTED, Mutant

CHECKS = ["self-test", "file", "optimized file", "JSON", "binary", "extremes", "weights"]


def what_catches(
    mutants: Mapping[str, Mutant],
    not_exported: set[str],
    network: BatchNormMLP,
    images: np.ndarray,
    limit: float,
) -> dict[str, dict[str, bool | None]]:
    """Return whether each of `CHECKS` catches each mutant, None where it does not apply.

    A model that fails its self-test is not served. Comparing the file's tensors with those of the
    weights catches only what was changed after the export.
    """
    expected, extremes = pytorch_logits(network, images), extreme_images(network)
    expected_extremes = pytorch_logits(network, extremes)
    reference, reference_extremes = (float64_logits(network, x) for x in (images, extremes))

    def wrong(logits: np.ndarray) -> bool:
        return not compare(logits, expected, reference, limit, expected.argmax(1))["passed"]

    def wrong_on_extremes(logits: np.ndarray) -> bool:
        return not compare(logits, expected_extremes, reference_extremes, limit)["passed"]

    caught: dict[str, dict[str, bool | None]] = {}
    served: dict[str, Path] = {}
    with TemporaryDirectory() as folder:
        for number, name in enumerate(tqdm(mutants, "models", disable=None)):
            mutant, path = mutants[name](network, images), Path(folder) / f"mutant-{number}"
            unlike = not is_export(network, mutant, self_test(network))
            mutant.graph.name = path.name  # one server has them all
            path.write_bytes(mutant.SerializeToString())
            caught[name] = {
                "self-test": not passes_self_test(path),
                "file": wrong(file_logits(path, images, optimize=False)),
                "optimized file": wrong(file_logits(path, images, optimize=True)),
                "JSON": None,
                "binary": None,
                "extremes": wrong_on_extremes(file_logits(path, extremes, optimize=False)),
                "weights": unlike if name in not_exported else None,
            }
            if not caught[name]["self-test"]:
                served[name] = path
        with running_server(*served.values()) as client:
            for name, path in served.items():
                for encoding in ENCODINGS:
                    logits = served_logits(client, path.name, encoding, images, 500)
                    caught[name][encoding] = wrong(logits)
    return caught


def passes_self_test(model: Path) -> bool:
    """Return whether the model passes the self-test, without which the server refuses it."""
    try:
        Engine.read(model)
    except ValueError as error:
        if "self-test" not in str(error):
            raise
        return False
    return True


def main() -> None:
    """Print the table."""
    try:
        network, images = load_network("batchnorm_mlp"), load_dataset().test_images
        limit = load_params().certify.max_abs_difference
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    assert isinstance(network, BatchNormMLP)
    table = what_catches(MUTANTS, NOT_EXPORTED, network, images, limit)
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
