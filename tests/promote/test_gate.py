import numpy as np
import pytest

from pipeline.core.params import PromoteParams
from pipeline.promote.gate import judge, p_value

PARAMS = PromoteParams(min_test_accuracy=0.9, significance_level=0.05)


def correct_except(*wrong: range) -> np.ndarray:
    """Return whether each of 1,000 answers is correct: all are but those."""
    correct = np.ones(1000, bool)
    for images in wrong:
        correct[images] = False
    return correct


def test_the_first_model_that_passes_becomes_the_champion() -> None:
    assert judge(True, correct_except(range(50)), None, PARAMS).alias == "champion"


def test_a_model_whose_certificate_did_not_pass_is_a_challenger() -> None:
    verdict = judge(False, correct_except(), None, PARAMS)
    assert verdict == ("challenger", "its certificate did not pass")


def test_a_model_below_the_minimum_accuracy_is_a_challenger() -> None:
    verdict = judge(True, correct_except(range(101)), None, PARAMS)
    assert verdict.alias == "challenger"
    assert "0.8990 is below promote.min_test_accuracy = 0.9" in verdict.reason


@pytest.mark.parametrize(
    ("only_candidate_wrong", "only_champion_wrong", "alias"),
    [
        (0, 0, "champion"),  # the same answers
        (0, 40, "champion"),  # better
        (12, 10, "champion"),  # worse within noise
        (40, 10, "challenger"),  # worse beyond noise
        (5, 0, "challenger"),  # 1/32 is below 5 %
        (4, 0, "champion"),  # 1/16 is not
    ],
)
def test_only_a_significantly_worse_model_is_a_challenger(
    only_candidate_wrong: int, only_champion_wrong: int, alias: str
) -> None:
    both = range(900, 920)
    candidate = correct_except(both, range(only_candidate_wrong))
    champion = correct_except(both, range(500, 500 + only_champion_wrong))
    verdict = judge(True, candidate, ("7", champion), PARAMS)
    assert verdict.alias == alias
    assert f"{only_candidate_wrong} only the champion, version 7" in verdict.reason


def test_the_p_value_depends_on_the_images_that_only_one_of_the_two_answers_correctly() -> None:
    few = p_value(correct_except(range(4)), correct_except())
    assert few == pytest.approx(1 / 16)
    many = p_value(correct_except(range(54)), correct_except(range(500, 550)))
    assert many > 0.3  # also four more losses than wins, but of 104


def test_the_significance_level_is_the_share_of_equally_good_models_that_are_challengers() -> None:
    random = np.random.default_rng(0)
    challengers = [
        p_value(random.random(1000) < 0.95, random.random(1000) < 0.95) < 0.05 for _ in range(500)
    ]
    assert np.mean(challengers) <= 0.07
