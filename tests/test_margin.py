from pathlib import Path

import numpy as np

from models import BatchNormMLP
from pipeline.data import Mnist
from pipeline.export import fold
from pipeline.legs import extreme_images, file_logits, float64_logits
from pipeline.margin import margin_report, margins, rounding_bound

TRUTH = np.array([[3.0, 1.0, 2.0], [5.0, 9.0, 8.5]])


def test_a_margin_is_what_the_first_is_above_the_second() -> None:
    assert margins(TRUTH).tolist() == [1.0, 0.5]


def test_no_float32_sum_goes_beyond_the_bound(
    network: BatchNormMLP, model: Path, small_mnist: Mnist
) -> None:
    images = np.concatenate([small_mnist.test_images, extreme_images(network)])
    truth, bound = float64_logits(network, images), rounding_bound(fold(network), images)
    error = np.abs(file_logits(model, images, optimise=True) - truth)
    assert (error <= bound).all()
    assert bound.max() < 0.1  # and it is not so wide that it says nothing

    x = images.reshape(len(images), -1).astype(np.float32)
    for number, (weight, bias) in enumerate(fold(network)):
        x = x if number == 0 else np.maximum(x, 0)
        weight, total = weight.astype(np.float32), np.zeros((len(x), len(weight)), np.float32)
        for column in reversed(range(x.shape[1])):  # one by one, backwards: no library's order
            total += x[:, column, None] * weight[:, column]
        x = total + bias.astype(np.float32)
    assert (np.abs(x - truth) <= bound).all()


def test_a_flip_is_impossible_where_the_margin_is_above_twice_the_error() -> None:
    bound = np.full(TRUTH.shape, 0.3)  # enough to close the second image's gap
    report = margin_report(TRUTH, bound, largest_error=0.2)
    assert report == {
        "smallest": 0.5,
        "needed": 0.4,
        "no_flip_possible": True,
        "proven_images": 1,
    }
    assert not margin_report(TRUTH, bound, largest_error=0.25)["no_flip_possible"]
    assert not margin_report(TRUTH, bound, largest_error=float("nan"))["no_flip_possible"]


def test_the_search_finds_larger_logits_than_any_image_has(
    network: BatchNormMLP, small_mnist: Mnist
) -> None:
    found = float64_logits(network, extreme_images(network))
    given = float64_logits(network, small_mnist.test_images)
    assert (found.max(axis=0) > given.max(axis=0)).all()
    assert (found.min(axis=0) < given.min(axis=0)).all()
