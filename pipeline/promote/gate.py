"""The gate: what makes a model the champion. It knows neither files nor MLflow."""

from typing import NamedTuple

import numpy as np

from pipeline.core.params import PromoteParams
from pipeline.data.load import Dataset

CHAMPION, CHALLENGER = "champion", "challenger"


class Verdict(NamedTuple):
    """The alias that a version gets, and the reason in a sentence."""

    alias: str
    reason: str


def p_value(correct: np.ndarray, rival_correct: np.ndarray) -> float:
    """Return the one-sided exact McNemar p-value for "worse than the rival".

    Of the images that only one of the two answers correctly, a model as good as its rival has half.

    correct, rival_correct: (N,) bool, for the same images.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions
    or percentages", Psychometrika 12, 1947
    """
    from scipy.stats import binomtest  # which takes seconds

    losses = int((rival_correct & ~correct).sum())
    wins = int((correct & ~rival_correct).sum())
    return float(binomtest(losses, losses + wins, 0.5, "greater").pvalue) if losses + wins else 1.0


def judge(
    passed: bool, correct: np.ndarray, rival: tuple[str, np.ndarray] | None, params: PromoteParams
) -> Verdict:
    """Return the verdict on a model.

    passed: whether its certificate passed; correct: (N,) bool, whether it answers each test image
    correctly; rival: the champion's version, and the same for it.
    """
    accuracy = float(correct.mean())
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
    version, rival_correct = rival
    p = p_value(correct, rival_correct)
    figures = (
        f"{int((correct & ~rival_correct).sum())} test images only it answers correctly, "
        f"{int((rival_correct & ~correct).sum())} only the champion, version {version} "
        f"(one-sided exact McNemar test: p = {p:.2g}; "
        f"promote.significance_level = {params.significance_level})"
    )
    if p < params.significance_level:
        return Verdict(CHALLENGER, f"it is worse than the champion: {figures}")
    return Verdict(CHAMPION, f"it is not significantly worse than the champion: {figures}")


def correct_answers(model: bytes, dataset: Dataset) -> np.ndarray:
    """Return whether the model answers each test image correctly, (N,) bool."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": dataset.test_images})
    return logits.argmax(axis=1) == dataset.test_labels
