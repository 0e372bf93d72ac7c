import asyncio
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from pipeline.data.load import Dataset
from serve.model.drift import WINDOW, DriftWindow, Statistics, drift_score
from serve.model.engine import Engine
from serve.model.metrics import Metrics
from serve.model.served import ServedModel
from tests.serve.process import infer

MODEL = '{model="batchnorm_mlp"}'  # the label of its metrics


def window(mean: float = 0.0, std: float = 1.0) -> DriftWindow:
    """A window over five units of this mean and standard deviation over the training images."""
    return DriftWindow(Statistics("units", np.full(5, mean), np.full(5, std)))


def test_the_score_is_the_mean_kullback_leibler_divergence() -> None:
    mean, std = torch.tensor([0.0, 0.5, -1.0]), torch.tensor([1.0, 2.0, 0.3])
    expected = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).mean()
    assert drift_score(mean.numpy(), std.numpy() ** 2) == pytest.approx(expected.item(), abs=1e-6)


def test_units_as_in_training_score_near_zero_and_others_higher() -> None:
    units = np.random.default_rng(0).normal(3, 2, (WINDOW, 5)).astype(np.float32)
    quiet, loud = window(3, 2), window(3, 1)
    assert quiet.add(units)
    assert loud.add(units)
    assert quiet.score < 0.01
    assert loud.score > 0.5


def test_a_score_covers_one_full_window_whatever_the_batch_size() -> None:
    units = np.random.default_rng(0).normal(1, 1, (2 * WINDOW, 5)).astype(np.float32)
    by_one, at_once = window(), window()
    filled = [by_one.add(units[i : i + 1]) for i in range(WINDOW)]
    assert filled == [False] * (WINDOW - 1) + [True]
    at_once.add(units[:WINDOW])
    assert by_one.score == pytest.approx(at_once.score, rel=1e-6)
    assert not by_one.add(units[:1])  # a new window has started


def test_constant_units_have_a_finite_score() -> None:
    constant = window()
    assert constant.add(np.zeros((WINDOW, 5), np.float32))
    assert np.isfinite(constant.score)
    assert constant.score > 1


def exposition(model: Path, images: np.ndarray) -> str:
    """The metrics after two requests for the images."""

    async def infer_twice() -> str:
        metrics = Metrics()
        served = ServedModel(Engine.read(model), metrics)
        for _ in range(2):
            await infer(served, images)
        return metrics.exposition().decode()

    return asyncio.run(infer_twice())


def test_the_engine_returns_the_tensor_that_the_model_names(
    model: Path, small_dataset: Dataset
) -> None:
    engine = Engine.read(model)
    assert engine.statistics
    outputs = engine.infer({"images": small_dataset.test_images[:5]})
    assert outputs[engine.statistics.tensor].shape == (5, 128)


def test_images_as_in_training_have_a_low_drift_score(
    model: Path, small_dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    scores = [
        float(exposition(model, images).split(f"\ninference_drift_score{MODEL} ")[1].split()[0])
        for images in (
            small_dataset.train_images[:WINDOW],
            255 - small_dataset.train_images[:WINDOW],
        )
    ]
    assert scores[0] < 0.1 < scores[1]
    assert "drift" not in caplog.text


def test_a_model_without_training_statistics_is_served_without_drift(
    model: Path, small_dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    plain = onnx.load(model)
    metadata = {entry.key: entry.value for entry in plain.metadata_props}
    for key in ("drift_tensor", "unit_mean", "unit_std"):
        del metadata[key]
    onnx.helper.set_model_props(plain, metadata)
    onnx.save(plain, model)
    text = exposition(model, small_dataset.test_images[:WINDOW])
    assert f"\ninference_batch_rows_sum{MODEL} 512.0\n" in text
    assert f"\ninference_drift_score{MODEL} NaN\n" in text
    assert caplog.text.count("drift is not") == 1
