from pathlib import Path

import numpy as np

from models import BatchNormMLP
from pipeline.data import Mnist
from pipeline.export import fold
from pipeline.legs import extreme_images, file_logits, float64_logits
from pipeline.margin import UNIT_ROUNDOFF, gap_bounds, gaps, margin_report

LOGITS = np.array([[3.0, 1.0, 2.0], [5.0, 9.0, 8.5]])
ANSWERS = np.array([0, 1])


def test_a_gap_is_how_far_the_answer_lies_above_another_logit() -> None:
    assert gaps(LOGITS, ANSWERS).tolist() == [[0.0, 2.0, 1.0], [4.0, 0.0, 0.5]]


def test_no_float32_sum_carries_a_gap_beyond_its_bound(
    network: BatchNormMLP, model: Path, small_mnist: Mnist
) -> None:
    images = np.concatenate([small_mnist.test_images, extreme_images(network)])
    truth = float64_logits(network, images)
    answers = truth.argmax(axis=1)
    bounds = gap_bounds(fold(network), images, answers)
    assert bounds.max() < 0.1  # they are not so wide that they say nothing

    x = images.reshape(len(images), -1).astype(np.float32)
    for number, (weight, bias) in enumerate(fold(network)):
        x = x if number == 0 else np.maximum(x, 0)
        weight, total = weight.astype(np.float32), np.zeros((len(x), len(weight)), np.float32)
        for column in reversed(range(x.shape[1])):  # one by one, backwards: no library's order
            total += x[:, column, None] * weight[:, column]
        x = total + bias.astype(np.float32)
    for logits in (x, file_logits(model, images, optimise=True)):
        error = np.abs(gaps(logits.astype(np.float64), answers) - gaps(truth, answers))
        assert (error <= bounds).all()
        assert error.max() > 0


def test_a_bound_holds_however_the_weights_are_off_by_a_rounding(
    network: BatchNormMLP, small_mnist: Mnist
) -> None:
    images = small_mnist.test_images
    truth = float64_logits(network, images)
    answers = truth.argmax(axis=1)
    bounds = gap_bounds(fold(network), images, answers)
    random = np.random.default_rng(0)
    for _ in range(5):
        x = images.reshape(len(images), -1).astype(np.float64)
        for weight, bias in fold(network):
            off = random.choice([-UNIT_ROUNDOFF, UNIT_ROUNDOFF], weight.shape)
            x = np.maximum(x, 0) @ (weight * (1 + off)).T + bias
        assert (np.abs(gaps(x, answers) - gaps(truth, answers)) <= bounds).all()


def test_no_flip_is_possible_where_every_gap_is_beyond_its_bound() -> None:
    bounds = np.full(LOGITS.shape, 0.4)
    report = margin_report(LOGITS, ANSWERS, bounds)
    assert report == {
        "smallest": 0.5, "nearest_gap": 0.5, "nearest_bound": 0.4, "proven_images": 2,
        "no_flip_possible": True,
    }  # fmt: skip
    bounds[1, 2] = 0.5  # enough to close the second image's gap
    report = margin_report(LOGITS, ANSWERS, bounds)
    assert (report["proven_images"], report["no_flip_possible"]) == (1, False)


def test_the_search_finds_larger_logits_than_any_image_has(
    network: BatchNormMLP, small_mnist: Mnist
) -> None:
    found = float64_logits(network, extreme_images(network))
    given = float64_logits(network, small_mnist.test_images)
    assert (found.max(axis=0) > given.max(axis=0)).all()
    assert (found.min(axis=0) < given.min(axis=0)).all()
