import numpy as np
import pytest

from pipeline.core.params import AdaptParams, PromoteParams
from pipeline.promote import gate
from pipeline.promote.gate import Choice, choose, judge, lower_bound, mcnemar

PARAMS = PromoteParams(min_test_accuracy=0.9, margin=0.01)
ADAPT = AdaptParams(
    rows=200, judge="simple_mlp", min_agreement=0.75, unattended=False, cooldown_s=0, wait_s=1
)
JUDGE = np.zeros(100, int)
NONE = np.full(100, -1)  # labels


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


def classes(*counts: tuple[int, int]) -> np.ndarray:
    """Return the predicted classes of 100 images, from pairs of a class and how many have it."""
    found = np.repeat(*np.transpose(counts))
    assert len(found) == 100
    return found


def choose_from(candidate: np.ndarray, champion: np.ndarray, labels: np.ndarray = NONE) -> Choice:
    """Choose with a judge that answers 0 to each of 100 images."""
    return choose({"re-estimated": candidate}, champion, JUDGE, labels, ADAPT)


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (0, 0, 1),
        (1, 0, 1 / 2),
        (0, 1, 1),
        (2, 1, 4 / 8),  # 3 + 1 of 8 sequences of tosses
        (6, 0, 1 / 64),
        (7, 1, 9 / 256),  # 8 + 1
        (5, 5, 638 / 1024),  # 252 + 210 + 120 + 45 + 10 + 1
        (1000, 0, 2.0**-1000),
    ],
)
def test_the_p_value_is_exact(wins: int, losses: int, p: float) -> None:
    both = [True] * 50 + [False] * 50
    correct = np.array([True] * wins + [False] * losses + both)
    rival_correct = np.array([False] * wins + [True] * losses + both)
    assert mcnemar(correct, rival_correct) == p


@pytest.mark.parametrize(("wins", "chosen"), [(6, None), (7, "re-estimated")])
def test_a_candidate_must_agree_with_the_judge_significantly_more_often_than_the_champion(
    wins: int, chosen: str | None
) -> None:
    choice = choose_from(JUDGE, classes((1, wins), (0, 100 - wins)))
    assert choice.candidate == chosen  # 1 / 64 > 0.01 > 1 / 128
    assert ("but p must be below 0.01" in choice.reason) == (chosen is None)


@pytest.mark.parametrize(("agreed", "chosen"), [(74, None), (75, "re-estimated")])
def test_a_candidate_must_agree_with_the_judge_on_the_minimum(
    agreed: int, chosen: str | None
) -> None:
    choice = choose_from(classes((0, agreed), (1, 100 - agreed)), classes((2, 100)))
    assert choice.candidate == chosen
    assert ("adapt.min_agreement is 0.75 of them" in choice.reason) == (chosen is None)


@pytest.mark.parametrize(("contradicted", "chosen"), [(19, "re-estimated"), (20, None)])
def test_a_judge_that_is_the_odd_one_out_does_not_replace_the_champion(
    contradicted: int, chosen: str | None
) -> None:
    # 7 wins against 19 images are 0.014 by the binomial distribution, against 20 they are 0.0096.
    candidate = classes((0, 100 - contradicted), (1, contradicted))
    champion = classes((2, 7), (0, 93 - contradicted), (1, contradicted))
    choice = choose_from(candidate, champion)
    assert choice.candidate == chosen
    assert ("but with the champion on 93, so the judge" in choice.reason) == (chosen is None)


@pytest.mark.parametrize(("labelled", "chosen"), [(29, "re-estimated"), (30, None)])
def test_30_labels_judge_instead_of_the_judge(labelled: int, chosen: str | None) -> None:
    labels = classes((0, 5), (1, labelled - 5), (-1, 100 - labelled))  # mostly the champion's
    choice = choose_from(JUDGE, classes((1, 100)), labels)
    assert choice.candidate == chosen
    assert ("the labels on 5 of 30 images, the champion on 25" in choice.reason) == (not chosen)


def test_labels_need_neither_a_minimum_nor_the_judge() -> None:
    # The judge is the odd one out, and only 8 of 30 answers are correct, though none was before.
    candidate, champion = classes((3, 8), (1, 92)), classes((2, 8), (1, 92))
    labels = classes((3, 30), (-1, 70))
    assert choose_from(candidate, champion).candidate is None
    choice = choose_from(candidate, champion, labels)
    assert choice == (
        "re-estimated",
        "the re-estimated network agrees with the labels on 8 of 30 images, the champion on 0 "
        "(p = 0.0039)",
    )


@pytest.mark.parametrize(
    ("trained", "chosen"), [(88, "re-estimated"), (89, "trained"), (96, "trained")]
)
def test_of_better_candidates_the_trained_one_returns_unless_another_is_significantly_better(
    trained: int, chosen: str
) -> None:
    candidates = {
        "re-estimated": classes((0, 95), (1, 5)),
        "trained": classes((0, trained), (1, 100 - trained)),
    }
    choice = choose(candidates, classes((2, 100)), JUDGE, NONE, ADAPT)
    assert choice.candidate == chosen
    assert choice.reason.startswith(f"the {chosen} network agrees with the judge on ")


def test_a_candidate_that_is_refused_does_not_hide_a_better_one() -> None:
    champion = classes((2, 10), (0, 65), (1, 25))
    candidates = {
        "re-estimated": classes((0, 75), (1, 25)),  # with the champion on 90
        "trained": classes((0, 9), (2, 1), (0, 65), (2, 25)),
    }
    params = ADAPT.model_copy(update={"min_agreement": 0.5})
    assert choose(candidates, champion, JUDGE, NONE, params).candidate == "trained"


def test_a_refusal_says_what_was_seen_and_what_to_do() -> None:
    champion = classes((0, 95), (1, 5))
    candidates = {"re-estimated": classes((0, 90), (1, 10)), "trained": champion}
    assert choose(candidates, champion, JUDGE, NONE, ADAPT).reason == (
        "the trained network agrees with the judge on 95 of 100 images, the champion on 95 "
        "(p = 1), but p must be below 0.01; if the champion errs, collect labels and train again"
    )
