"""Breaks the export in a dozen ways and shows what catches each: `python -m bench.mutants`.

A check that nothing can fail proves nothing. The exit status is 1 if a mutant goes unseen.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from bench.broken import BEHIND_EXPORT, MUTANTS, plain_export, to_bytes
from models import BatchNormMLP
from pipeline import export
from pipeline.certify import compare
from pipeline.data import load_mnist
from pipeline.legs import (
    ask_binary,
    ask_json,
    file_logits,
    hard_images,
    pytorch_logits,
    running_server,
    served_logits,
)
from pipeline.params import load_params

CHECKS = ["self-test", "file", "optimised file", "JSON", "binary", "extremes", "same bytes"]


def checks(
    name: str, network: BatchNormMLP, images: np.ndarray, limit: float
) -> dict[str, bool | None]:
    """Return whether each check catches the mutant, None where it has nothing to say.

    A model that fails its self-test is not served. Exporting again shows only what came later.
    """
    content = to_bytes(MUTANTS[name](network, images))
    again = to_bytes(plain_export(network, images)) if name in BEHIND_EXPORT else content
    expected, hard = pytorch_logits(network, images), hard_images(network)["extremes"]
    expected_hard = pytorch_logits(network, hard)
    allowed = limit * np.maximum(1, np.abs(expected_hard).max(axis=1, keepdims=True))

    def wrong(logits: np.ndarray) -> bool:
        return not compare(expected, {"": logits}, expected.argmax(1), limit)["passed"]

    with TemporaryDirectory() as folder:
        model = Path(folder) / "mutant.onnx"
        model.write_bytes(content)
        difference = np.abs(file_logits(model, hard, optimise=False) - expected_hard)
        caught: dict[str, bool | None] = {
            "self-test": False,
            "file": wrong(file_logits(model, images, optimise=False)),
            "optimised file": wrong(file_logits(model, images, optimise=True)),
            "extremes": bool((difference > allowed).any()),
            "same bytes": again != content if name in BEHIND_EXPORT else None,
        }
        try:
            with running_server(model) as client:
                for wire, ask in (("JSON", ask_json), ("binary", ask_binary)):
                    caught[wire] = wrong(served_logits(ask, client, images, request_size=500))
        except RuntimeError:
            caught |= {"self-test": True, "JSON": None, "binary": None}
    return caught


def main() -> None:
    """Print the table."""
    try:
        network, images = export.load_network(), load_mnist().test_images
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    limit = load_params().certify.max_abs_difference
    table = {name: checks(name, network, images, limit) for name in tqdm(MUTANTS, disable=None)}
    words = {True: "caught", False: "", None: "–"}
    print(f"\n| what is wrong | {' | '.join(CHECKS)} |")
    print("| --- " * (1 + len(CHECKS)) + "|")
    for name, caught in table.items():
        print(f"| {name} | {' | '.join(words[caught[check]] for check in CHECKS)} |")
    unseen = [name for name, caught in table.items() if not any(caught.values())]
    if unseen:
        sys.exit(f"error: nothing catches {', '.join(unseen)}")


if __name__ == "__main__":
    main()
