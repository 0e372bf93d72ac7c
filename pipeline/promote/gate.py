"""The gates: what makes a model the champion, and what replaces its running statistics. They know
neither files nor MLflow."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from pipeline.core.params import AdaptParams, PromoteParams
from pipeline.data.load import Dataset

CHAMPION, CHALLENGER = "champion", "challenger"
CONFIDENCE = 0.95
TRAINED, RE_ESTIMATED = "trained", "re-estimated"  # running statistics
SIGNIFICANCE = 0.01
MIN_LABELS = 30  # fewer cannot tell two networks apart


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


class Choice(NamedTuple):
    """The candidate that replaces the champion, or None, and the reason in a sentence."""

    candidate: str | None
    reason: str


def mcnemar(correct: np.ndarray, rival_correct: np.ndarray) -> float:
    """Return the one-sided exact McNemar p-value for "more accurate than the rival": how likely a
    fair coin decides at least as many of the images that only one answers correctly in its favor.

    correct, rival_correct: (N,) bool, for the same images.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions
    or percentages", Psychometrika 12(2), 1947
    """
    wins = int((correct & ~rival_correct).sum())
    n = wins + int((rival_correct & ~correct).sum())
    return sum(math.comb(n, k) for k in range(wins, n + 1)) / 2**n


def choose(
    candidates: dict[str, np.ndarray],
    champion: np.ndarray,
    judge: np.ndarray,
    labels: np.ndarray,
    params: AdaptParams,
) -> Choice:
    """Return which candidate replaces the champion, as judged by another network or by labels.

    A candidate must agree with the judge on significantly more images than the champion does, and
    on `adapt.min_agreement` of all. Nor may it agree with the champion on significantly more images
    than with the judge: of three networks, the odd one out is likely to err, and then it is the
    judge. With `MIN_LABELS` labels, they judge, and the first condition alone decides.
    The trained network returns if it wins and no other is significantly better than it.

    candidates: predicted classes (N,), by name; champion, judge: the same, for images from which no
    statistics were estimated; labels: (N,), -1 for an image without a label.
    """
    labeled = labels >= 0
    if labeled.sum() < MIN_LABELS:
        truth, least = judge, params.min_agreement
    else:
        truth, least = labels[labeled], None
        champion = champion[labeled]
        candidates = {name: candidates[name][labeled] for name in candidates}
    choices = {name: compare(name, candidates[name], champion, truth, least) for name in candidates}
    best = max(
        candidates,
        key=lambda name: (choices[name].candidate is not None, (candidates[name] == truth).sum()),
    )
    if TRAINED in candidates and choices[TRAINED].candidate:
        better = mcnemar(candidates[best] == truth, candidates[TRAINED] == truth)
        best = best if better < SIGNIFICANCE else TRAINED
    return choices[best]


def compare(
    name: str, candidate: np.ndarray, champion: np.ndarray, truth: np.ndarray, least: float | None
) -> Choice:
    """Return whether a candidate replaces the champion: see `choose`.

    candidate, champion: predicted classes (N,); truth: (N,), the judge's or, if there is no `least`
    fraction of them to agree on, the labels.
    """
    right, rival, same = candidate == truth, champion == truth, candidate == champion
    p = mcnemar(right, rival)
    figures = (
        f"the {name} network agrees with {'the labels' if least is None else 'the judge'} on "
        f"{right.sum()} of {len(truth)} images, the champion on {rival.sum()} (p = {p:.2g})"
    )
    if p >= SIGNIFICANCE:
        objection = f"p must be below {SIGNIFICANCE}"
    elif least is not None and right.mean() < least:
        objection = f"adapt.min_agreement is {least} of them"
    elif least is not None and mcnemar(same, right) < SIGNIFICANCE:
        objection = f"with the champion on {same.sum()}, so the judge may be the one that errs"
    else:
        return Choice(name, figures)
    advice = "if the champion errs, collect labels and train again"
    return Choice(None, f"{figures}, but {objection}; {advice}")


def correct_answers(model: bytes, dataset: Dataset) -> np.ndarray:
    """Return whether the model answers each test image correctly, (N,) bool."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    batches = np.array_split(dataset.test_images, math.ceil(len(dataset.test_images) / 500))
    logits = np.concatenate([session.run(["logits"], {"images": batch})[0] for batch in batches])
    return logits.argmax(axis=1) == dataset.test_labels
