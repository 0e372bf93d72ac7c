"""The gate: what makes a model the champion. It knows neither files nor MLflow."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from pipeline.core.params import PromoteParams
from pipeline.data.load import Dataset

CHAMPION, CHALLENGER = "champion", "challenger"
CONFIDENCE = 0.95


class Verdict(NamedTuple):
    """The alias that a version gets, the reason in a sentence, and the version that it may be
    inferior to."""

    alias: str
    reason: str
    better: str | None = None


def lower_bound(correct: np.ndarray, rival_correct: np.ndarray) -> float:
    """Return the lower bound of the accuracy minus the rival's, with a one-sided confidence of
    `CONFIDENCE`: the adjusted Wald interval for paired proportions.

    correct, rival_correct: (N,) bool, for the same images.

    Source: Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data", Journal of Educational and Behavioral Statistics 37(4), 2012
    """
    n = len(correct) + 2
    wins = (int((correct & ~rival_correct).sum()) + 1) / n
    losses = (int((rival_correct & ~correct).sum()) + 1) / n
    error = math.sqrt((wins + losses - (wins - losses) ** 2) / n)
    return wins - losses - NormalDist().inv_cdf(CONFIDENCE) * error


def judge(
    passed: bool, correct: np.ndarray, rivals: dict[str, np.ndarray], params: PromoteParams
) -> Verdict:
    """Return the verdict on a model: it must not be inferior to any of its rivals.

    passed: whether its certificate passed; correct: (N,) bool, whether it answers each test image
    correctly; rivals: the same for champions, by their version.
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
    if not rivals:
        return Verdict(CHAMPION, "it passes, and no other version is the champion")
    bounds = {version: lower_bound(correct, rivals[version]) for version in rivals}
    closest = min(bounds, key=bounds.__getitem__)
    figures = (
        f"promote.margin = {params.margin} less accurate than the champion version {closest}: "
        f"{int((correct & ~rivals[closest]).sum())} test images only it answers correctly, "
        f"{int((rivals[closest] & ~correct).sum())} only version {closest}, so the difference is "
        f"above {bounds[closest]:.4f} with {CONFIDENCE:.0%} confidence"
    )
    if bounds[closest] <= -params.margin:
        return Verdict(CHALLENGER, f"it may be more than {figures}", closest)
    return Verdict(CHAMPION, f"it is at most {figures}")


def correct_answers(model: bytes, dataset: Dataset) -> np.ndarray:
    """Return whether the model answers each test image correctly, (N,) bool."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": dataset.test_images})
    return logits.argmax(axis=1) == dataset.test_labels
