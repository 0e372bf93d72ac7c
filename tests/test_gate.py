import numpy as np
import pytest

from pipeline.gate import judge, p_value
from pipeline.params import PromoteParams

PARAMS = PromoteParams(min_test_accuracy=0.9, significance_level=0.05)


def right(*wrong: range) -> np.ndarray:
    """Answers to 1,000 images, all right but those."""
    answers = np.ones(1000, bool)
    for images in wrong:
        answers[images] = False
    return answers


def test_the_first_that_passes_is_the_champion() -> None:
    assert judge(True, right(range(50)), None, PARAMS).alias == "champion"


def test_one_without_a_certificate_is_not() -> None:
    verdict = judge(False, right(), None, PARAMS)
    assert verdict == ("challenger", "its certificate did not pass")


def test_one_that_is_not_accurate_enough_is_not() -> None:
    verdict = judge(True, right(range(101)), None, PARAMS)
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
def test_only_one_that_is_worse_beyond_noise_is_held_back(
    only_candidate_wrong: int, only_champion_wrong: int, alias: str
) -> None:
    both = range(900, 920)
    candidate = right(both, range(only_candidate_wrong))
    champion = right(both, range(500, 500 + only_champion_wrong))
    verdict = judge(True, candidate, ("7", champion), PARAMS)
    assert verdict.alias == alias
    assert f"{only_candidate_wrong} only the champion, version 7" in verdict.reason


def test_the_same_accuracies_are_judged_by_the_images_they_differ_on() -> None:
    few = p_value(right(range(4)), right())
    assert few == pytest.approx(1 / 16)
    many = p_value(right(range(54)), right(range(500, 550)))  # also four more, but of 104
    assert many > 0.3


def test_the_level_is_the_share_of_models_as_good_that_are_held_back() -> None:
    random = np.random.default_rng(0)
    held_back = [
        p_value(random.random(1000) < 0.95, random.random(1000) < 0.95) < 0.05 for _ in range(500)
    ]
    assert np.mean(held_back) <= 0.07
