"""Judges a model by its answers beside the champion's. Knows no files and no MLflow."""

from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from scipy.stats import binomtest

from pipeline.data import Mnist
from pipeline.params import PromoteParams

CHAMPION, CHALLENGER = "champion", "challenger"


class Verdict(NamedTuple):
    """The alias that a version gets, and why, in a sentence."""

    alias: str
    reason: str


def p_value(right: np.ndarray, rival_right: np.ndarray) -> float:
    """Return how probable it is that a model as good as its rival does as badly beside it.

    The exact McNemar test, one-sided: of the images on which only one of the two is right, a model
    as good as its rival has half.

    right, rival_right: (N,) bool, for the same images.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions
    or percentages", Psychometrika 12, 1947
    """
    losses = int((rival_right & ~right).sum())
    wins = int((right & ~rival_right).sum())
    return float(binomtest(losses, losses + wins, 0.5, "greater").pvalue) if losses + wins else 1.0


def judge(
    passed: bool, right: np.ndarray, rival: tuple[str, np.ndarray] | None, params: PromoteParams
) -> Verdict:
    """Return the verdict on a model.

    passed: whether its certificate did; right: (N,) bool, whether its answer to each test image is
    right; rival: the champion's version and the same of it.
    """
    accuracy = float(right.mean())
    if not passed:
        return Verdict(CHALLENGER, "its certificate did not pass")
    if accuracy < params.min_test_accuracy:
        return Verdict(
            CHALLENGER,
            f"its test accuracy {accuracy:.4f} is below promote.min_test_accuracy = "
            f"{params.min_test_accuracy}",
        )
    if not rival:
        return Verdict(CHAMPION, "it passes, and no other version is the champion")
    version, rival_right = rival
    p = p_value(right, rival_right)
    figures = (
        f"{int((right & ~rival_right).sum())} test images only it has right, "
        f"{int((rival_right & ~right).sum())} only the champion, version {version} "
        f"(one-sided exact McNemar test: p = {p:.2g}; "
        f"promote.significance_level = {params.significance_level})"
    )
    if p < params.significance_level:
        return Verdict(CHALLENGER, f"it is worse than the champion: {figures}")
    return Verdict(CHAMPION, f"it is not worse than the champion beyond noise: {figures}")


def right_answers(model: bytes, mnist: Mnist) -> np.ndarray:
    """Return whether the model's answer to each test image is right, (N,) bool."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": mnist.test_images})
    return logits.argmax(axis=1) == mnist.test_labels
