"""Compares logits: each backend's with PyTorch's."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

Row = dict[str, Any]


def compare(
    logits: np.ndarray,
    expected: np.ndarray,
    reference: np.ndarray,
    limit: float,
    labels: np.ndarray | None = None,
) -> Row:
    """Return how a backend's logits (N, classes) compare with PyTorch's.

    With labels (N,), which test images have, the comparison passes if no logit differs by more than
    the limit and no answer, the class of the largest logit, is flipped. Without, it passes if no
    logit differs by more than the limit times the image's largest absolute logit if that is greater
    than 1, since the logits of stress images have no bound. A NaN never passes.

    expected: PyTorch's logits in float32; reference: PyTorch's logits in float64.
    """
    answers = logits.argmax(axis=1)
    flipped = int((answers != expected.argmax(axis=1)).sum())
    scale = np.maximum(1, np.abs(reference).max(axis=1, keepdims=True))  # (N, 1)
    allowed = limit * scale if labels is None else limit
    close = bool((np.abs(logits - expected) <= allowed).all())
    return {
        "count": len(logits),
        "accuracy": None if labels is None else float((answers == labels).mean()),
        "max_abs_difference": largest(logits - expected),
        "float64_error": largest(logits - reference),
        "flipped": flipped,
        "passed": close and (labels is None or not flipped),
    }


def largest(differences: np.ndarray) -> float | None:
    """Return the largest absolute value; None, for JSON, if it is NaN or infinite."""
    value = float(np.abs(differences).max())
    return value if math.isfinite(value) else None


def worst(values: Iterable[float | None]) -> float | None:
    """Return the largest of what `largest` returned, None if there is a None."""
    return max(values, key=lambda value: math.inf if value is None else value)


def totals(pytorch: Row, rows: list[Row]) -> dict[str, Any]:
    """Return the totals of the comparisons on the test images.

    The part that a backend tests is its name up to the comma: `file, batch 7` tests the part
    `file`. A part has the figures of its worst backend.
    """
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(row["backend"].partition(",")[0], []).append(row)
    accuracy = {part: min(row["accuracy"] for row in its) for part, its in parts.items()}
    return {
        "passed": all(row["passed"] for row in rows),
        "images": pytorch["count"],
        "accuracy": {"pytorch": pytorch["accuracy"], **accuracy},
        "max_abs_difference": {
            part: worst(row["max_abs_difference"] for row in its) for part, its in parts.items()
        },
        "flipped": {part: max(row["flipped"] for row in its) for part, its in parts.items()},
        "float64_error": {
            "pytorch": pytorch["float64_error"],
            "exported": worst(row["float64_error"] for row in rows),
        },
    }
