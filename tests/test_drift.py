import json

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from serve.drift import WINDOW, DriftWindow, drift_score


def window(mean: float = 0.0, std: float = 1.0) -> DriftWindow:
    """A window over five units that the training saw at this mean and deviation."""
    return DriftWindow({"unit_mean": json.dumps([mean] * 5), "unit_std": json.dumps([std] * 5)})


def test_the_score_is_the_mean_kullback_leibler_divergence() -> None:
    mean, std = torch.tensor([0.0, 0.5, -1.0]), torch.tensor([1.0, 2.0, 0.3])
    expected = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).mean()
    assert drift_score(mean.numpy(), std.numpy() ** 2) == pytest.approx(expected.item(), abs=1e-6)


def test_units_as_in_training_score_nearly_nothing_and_others_more() -> None:
    units = np.random.default_rng(0).normal(3, 2, (WINDOW, 5)).astype(np.float32)
    quiet, loud = window(3, 2), window(3, 1)
    assert quiet.add(units)
    assert loud.add(units)
    assert quiet.score < 0.01
    assert loud.score > 0.5


def test_a_score_is_of_one_full_window_however_it_came() -> None:
    units = np.random.default_rng(0).normal(1, 1, (2 * WINDOW, 5)).astype(np.float32)
    by_one, at_once = window(), window()
    filled = [by_one.add(units[i : i + 1]) for i in range(WINDOW)]
    assert filled == [False] * (WINDOW - 1) + [True]
    at_once.add(units[:WINDOW])
    assert by_one.score == pytest.approx(at_once.score, rel=1e-6)
    assert not by_one.add(units[:1])  # a new one has begun


def test_units_that_never_move_have_a_finite_score() -> None:
    still = window()
    assert still.add(np.zeros((WINDOW, 5), np.float32))
    assert np.isfinite(still.score)
    assert still.score > 1
