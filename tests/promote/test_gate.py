import numpy as np
import pytest

from pipeline.core.params import PromoteParams
from pipeline.promote import gate
from pipeline.promote.gate import judge, lower_bound

PARAMS = PromoteParams(min_test_accuracy=0.9, margin=0.01)


def correct_except(*wrong: range) -> np.ndarray:
    """Return whether each of 1,000 answers is correct: all are but those."""
    correct = np.ones(1000, bool)
    for images in wrong:
        correct[images] = False
    return correct


def test_the_first_model_that_passes_becomes_the_champion() -> None:
    assert judge(True, correct_except(range(50)), {}, PARAMS).alias == "champion"


def test_a_model_whose_certificate_did_not_pass_is_a_challenger() -> None:
    verdict = judge(False, correct_except(), {}, PARAMS)
    assert verdict == ("challenger", "its certificate did not pass", None)


def test_a_model_below_the_minimum_accuracy_is_a_challenger() -> None:
    verdict = judge(True, correct_except(range(101)), {}, PARAMS)
    assert verdict.alias == "challenger"
    assert "0.8990 is below promote.min_test_accuracy = 0.9" in verdict.reason


@pytest.mark.parametrize(
    ("only_candidate_wrong", "only_champion_wrong", "alias"),
    [
        (0, 0, "champion"),  # the same answers
        (0, 40, "champion"),  # better
        (11, 10, "champion"),  # worse by at most 8.9 per thousand
        (15, 10, "challenger"),  # by at most 13.5
        (40, 39, "challenger"),  # by at most 15.7: also one more, but of more images
    ],
)
def test_a_model_that_may_be_worse_by_more_than_the_margin_is_a_challenger(
    only_candidate_wrong: int, only_champion_wrong: int, alias: str
) -> None:
    both = range(900, 920)
    candidate = correct_except(both, range(only_candidate_wrong))
    champion = correct_except(both, range(500, 500 + only_champion_wrong))
    verdict = judge(True, candidate, {"7": champion}, PARAMS)
    assert verdict.alias == alias
    assert verdict.better == (None if alias == "champion" else "7")
    assert f"{only_candidate_wrong} only version 7" in verdict.reason


def test_of_several_champions_the_one_that_is_hardest_to_match_decides() -> None:
    rivals = {"7": correct_except(range(30)), "8": correct_except(), "9": correct_except(range(9))}
    verdict = judge(True, correct_except(range(30)), rivals, PARAMS)
    assert (verdict.alias, verdict.better) == ("challenger", "8")
    assert "than the champion version 8: 0 test images only it" in verdict.reason


def test_the_bound_is_that_of_bonett_and_price(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 161 patients, 6 and 16 responded to one of two treatments only: the package
    # contingencytables for R has a 95 % interval, with two sides, from -0.1195 to -0.0032.
    monkeypatch.setattr(gate, "CONFIDENCE", 0.975)
    first, second = np.zeros(161, bool), np.zeros(161, bool)
    first[:6] = second[6:22] = True
    assert lower_bound(first, second) == pytest.approx(-0.1195, abs=5e-5)
    assert -lower_bound(second, first) == pytest.approx(-0.0032, abs=5e-5)


def test_the_bound_is_above_the_true_difference_in_one_of_twenty_comparisons() -> None:
    random = np.random.default_rng(0)
    bounds = []
    for _ in range(1000):
        worse = random.random(2000) < 0.97
        bounds.append(lower_bound(worse, worse | (random.random(2000) < 0.1)))  # by 0.003
    assert np.mean(np.array(bounds) > -0.003) <= 0.07


@pytest.mark.parametrize("least", [0.97, 0.85])
def test_a_hundred_models_each_slightly_worse_than_the_last_sink_by_less_than_the_margin(
    least: float,
) -> None:
    params = PromoteParams(min_test_accuracy=least, margin=0.005)
    random = np.random.default_rng(0)
    champion = random.permutation(np.arange(10_000) < 9776)
    champions = {"0": champion}
    for number in range(1, 101):
        candidate = champion.copy()
        for before, least_images in ((True, 60), (False, 50)):
            changed = random.integers(least_images, least_images + 10)
            images = random.choice(np.flatnonzero(champion == before), changed, replace=False)
            candidate[images] = not before
        best = max(champions, key=lambda version: champions[version].sum())
        if judge(True, candidate, {best: champions[best]}, params).alias == "champion":
            champion = champions[str(number)] = candidate
    accuracies = [float(answers.mean()) for answers in champions.values()]
    assert min(accuracies) > max(accuracies) - params.margin
