"""Compares logits: each backend's with PyTorch's."""

from typing import Any

import numpy as np


def compare(
    expected: np.ndarray, backends: dict[str, np.ndarray], labels: np.ndarray, limit: float
) -> dict[str, Any]:
    """Return how the logits (N, classes) of each backend of the deployment compare with PyTorch's.

    The comparison passes if no logit differs by more than `limit` (NaN does) and no answer, the
    class of the largest logit, is flipped. A part of the deployment, the name of its backends up to
    a comma, counts as the worst of them.
    """
    answers = expected.argmax(axis=1)
    accuracy: dict[str, float] = {"pytorch": float((answers == labels).mean())}
    differences: dict[str, float] = {}
    flipped: dict[str, int] = {}
    for backend, logits in backends.items():
        part = backend.partition(",")[0]
        its_answers = logits.argmax(axis=1)
        its_accuracy = float((its_answers == labels).mean())
        accuracy[part] = min(its_accuracy, accuracy.get(part, 1.0))
        differences[part] = np.maximum(differences.get(part, 0.0), largest(logits - expected))
        flipped[part] = max(flipped.get(part, 0), int((its_answers != answers).sum()))
    return {
        "passed": all(d <= limit for d in differences.values()) and not any(flipped.values()),
        "images": len(expected),
        "accuracy": accuracy,
        "max_abs_difference": {part: finite(value) for part, value in differences.items()},
        "flipped": flipped,
    }


def largest(differences: np.ndarray) -> float:
    """Return the largest absolute value, NaN if there is a NaN."""
    return float(np.abs(differences).max())


def finite(value: float) -> float | None:
    """Return the value as JSON can hold it: None for NaN and infinity."""
    return float(value) if np.isfinite(value) else None


def table_row(
    logits: np.ndarray, expected: np.ndarray, reference: np.ndarray, allowed: np.ndarray
) -> dict[str, Any]:
    """Return how one backend's logits (N, classes) compare on one kind of images.

    expected: PyTorch's in float32; reference: PyTorch's in float64; allowed: (N, 1), per image.
    """
    return {
        "count": len(logits),
        "max_abs_difference": finite(largest(logits - expected)),
        "float64_error": finite(largest(logits - reference)),
        "flipped": int((logits.argmax(axis=1) != expected.argmax(axis=1)).sum()),
        "passed": bool((np.abs(logits - expected) <= allowed).all()),
    }
