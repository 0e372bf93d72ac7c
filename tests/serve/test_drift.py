"""The alarm of drift: its guarantee, its speed, and what a server with two workers counts."""

import asyncio
import json
import re
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from scipy.special import softmax

from pipeline.core.params import Recipe
from pipeline.data.corruptions import PHOTOMETRIC
from pipeline.data.load import Dataset, load_dataset
from pipeline.export.build import HELD_OUT, UNSEEN
from pipeline.export.graph import held_out_reference, summary, to_onnx
from pipeline.train.loop import initial_network, train
from serve.model.drift import KEY, ROWS, TOLERANCE, WINDOW, Alarm, Drift, Reference, read_reference
from serve.model.engine import Engine
from serve.model.metrics import Metrics
from serve.model.served import ServedModel
from tests.serve.process import INFER, Record, infer, raw_request, serving

CLASSES = 4
MODEL = '{model="batchnorm_mlp"}'  # the label of its metrics


def outputs(rows: int, scale: float = 1.0, seed: int = 0, label: int | None = None) -> np.ndarray:
    """Outputs whose margins are larger for later classes, of one predicted class if it is given."""
    values = np.random.default_rng(seed).normal(0, scale, (50 * rows, CLASSES))
    values[np.arange(len(values)), values.argmax(axis=1)] += values.argmax(axis=1)
    if label is not None:
        values = values[values.argmax(axis=1) == label]
    return values[:rows].astype(np.float32)


def reference(held_out: np.ndarray) -> Reference:
    """What a file says of these outputs."""
    metadata = {KEY: json.dumps({"output": "logits"} | summary(held_out.astype(np.float64)))}
    found = read_reference(metadata, {"logits": list("0123")})
    assert found
    return found


@pytest.mark.parametrize("threshold", [100, 1000])
@pytest.mark.parametrize("mean", [0.5 - TOLERANCE, 0.5 + TOLERANCE])
@pytest.mark.parametrize("kind", ["constant", "all or nothing", "uniform"])
def test_at_the_edge_of_the_tolerance_false_alarms_are_as_rare_as_is_said(
    threshold: int, mean: float, kind: str
) -> None:
    rows, random = 100_000, np.random.default_rng(0)
    ranks = {
        "constant": np.full(rows, mean),
        "all or nothing": (random.random(rows) < mean).astype(float),
        "uniform": random.uniform(mean - 0.45, mean + 0.45, rows),
    }[kind]
    rung = Alarm(threshold).add(ranks[None])
    assert threshold < rows / rung < 4 * threshold  # nor are they rarer than they must be


@pytest.mark.parametrize("mean", [0.3, 0.7])
def test_it_rings_soon_once_ranks_have_changed_and_again_while_they_stay_so(mean: float) -> None:
    ranks = np.random.default_rng(0).uniform(mean - 0.3, mean + 0.3, (1, 100))
    assert Alarm().add(ranks[:, :40]) == 0
    assert Alarm().add(ranks) == 1
    assert Alarm().add(np.tile(ranks, 4)) >= 4


def test_it_rings_if_one_kind_of_ranks_changes() -> None:
    ranks = np.array([np.full(200, 0.5), np.full(200, 0.3)])
    assert Alarm().add(ranks[:1]) == 0 < Alarm().add(ranks)


def test_it_makes_no_difference_how_the_rows_arrive() -> None:
    ranks, at_once, one_by_one = np.linspace([0.5, 0.4], 1, 500), Alarm(1000), Alarm(1000)
    assert at_once.add(ranks.T) == sum(one_by_one.add(rank[:, None]) for rank in ranks) > 2


def test_rows_like_the_held_out_ones_have_ranks_of_a_half_whatever_their_classes() -> None:
    known = reference(outputs(20_000))
    for label in (None, *range(CLASSES)):
        ranks = known.ranks(outputs(2000, seed=1, label=label))
        assert ranks.mean() == pytest.approx(0.5, abs=0.03)


def test_a_rank_is_the_mean_of_the_fractions_with_a_smaller_margin_and_a_larger_distance() -> None:
    means = np.array([[4.0, 0], [0, 4]])
    whitenings = np.array([np.eye(2), [[1, 0], [0, 0.1]]])
    margins, nearnesses = [[0.0, 4, 8], [0, 40, 80]], [[-8.0, -2, 0], [-8, -2, 0]]
    known = Reference("logits", np.full(2, 0.5), means, whitenings, np.array([margins, nearnesses]))
    for row, margin, distance in (
        ([4, 0], 0.5, 0),  # the mean; of three quantiles, an equal one counts half
        ([3, 0], 0.25, 0.25),
        ([1, 0], 0.25, 1),
        ([8, 4], 0.5, 1),  # as sure as usual, but far
        ([9, 0], 1, 1),
        ([0, 4], 0.25, 0),
        ([0, 44], 0.75, 1),
        ([1, 14], 0.25, 0.5),
        ([3, 3], 0, 1),
    ):
        both = (margin + 1 - distance) / 2
        assert known.ranks(np.array([row])) == pytest.approx(np.array([[both], [margin]])), row


def test_unusual_or_less_sure_rows_have_lower_ranks_and_more_usual_ones_higher_ranks() -> None:
    held_out, rows = outputs(20_000), outputs(2000, seed=1)
    known, labels = reference(held_out), rows.argmax(axis=1)
    means = np.array([held_out[held_out.argmax(axis=1) == k].mean(axis=0) for k in range(CLASSES)])
    assert known.ranks(rows + 2)[0].mean() < 0.35  # with the same margins
    assert known.ranks(rows / 2)[0].mean() < 0.4
    assert known.ranks((rows + means[labels]) / 2)[0].mean() > 0.6


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("label", range(CLASSES))
def test_a_row_that_is_not_finite_has_the_rank_0(number: float, label: int) -> None:
    rows = outputs(3)
    rows[1, label] = number
    ranks = reference(outputs(5000)).ranks(rows)
    assert (ranks[:, 1] == 0).all()
    assert (ranks[:, [0, 2]] > 0).all()


@pytest.mark.parametrize("rows", [60, 200])
def test_with_few_held_out_rows_ranks_are_near_a_half_too(rows: int) -> None:
    known = [reference(outputs(rows, seed=seed)) for seed in range(10)]
    ranks = [few.ranks(outputs(2000, seed=100)).mean() for few in known]
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.05)


def test_a_class_that_is_predicted_for_no_held_out_row_looks_like_all() -> None:
    held_out = outputs(5000)
    known = reference(held_out[held_out.argmax(axis=1) != 2])
    assert 0 < known.ranks(outputs(2000, seed=1, label=2)).mean() < 1
    assert known.shares[2] == 0


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float16, np.float32])
def test_outputs_of_any_type_and_shape_are_ranked_and_none_is_kept(dtype: type) -> None:
    drift = Drift(reference(outputs(5000)))
    for shape in ((1, CLASSES), (3, 5, CLASSES), (200, CLASSES), (7, 0, CLASSES)):
        for _ in range(100):
            drift.add(np.eye(CLASSES)[np.zeros(shape[:-1], int)].astype(dtype))
    assert len(drift._waiting) < ROWS
    assert 0 <= drift.rank <= 1


def test_equal_margins_have_ranks_of_a_half_too() -> None:
    sure = softmax(100 * outputs(5000), axis=1)  # most are exactly 1
    assert (sure.max(axis=1) == 1).mean() > 0.5
    assert reference(sure).ranks(sure).mean() == pytest.approx(0.5, abs=0.02)


def test_rows_are_ranked_together_and_the_last_ones_are_averaged() -> None:
    known, rows = reference(outputs(20_000)), outputs(WINDOW + ROWS)
    drift = Drift(known)
    assert not drift.add(rows[: ROWS - 1])
    assert np.isnan(drift.rank)
    assert drift.add(rows[ROWS - 1 : ROWS])
    assert drift.add(rows[ROWS:])
    assert drift.rank == pytest.approx(known.ranks(rows[-WINDOW:])[0].mean())


def exposition(model: Path, images: np.ndarray) -> str:
    """The metrics after two requests for the images."""

    async def infer_twice() -> str:
        metrics = Metrics()
        served = ServedModel(Engine.read(model), metrics)
        for _ in range(2):
            await infer(served, images)
        return metrics.exposition().decode()

    return asyncio.run(infer_twice())


def test_unlike_images_raise_alarms_and_images_like_the_held_out_ones_none(
    model: Path, small_dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    images = small_dataset.test_images
    alarms, ranks = (
        [
            float(exposition(model, pixels).split(f"\n{metric}{MODEL} ")[1].split()[0])
            for pixels in (images, images // 2 + 60)
        ]
        for metric in ("inference_drift_alarms_total", "inference_drift_rank")
    )
    assert alarms[0] == 0 < alarms[1]
    assert ranks[0] == pytest.approx(0.5, abs=0.05)
    assert abs(ranks[1] - 0.5) > 0.1
    assert "drift" not in caplog.text


def test_a_model_without_a_reference_is_served_and_no_drift_is_noticed(
    model: Path, small_dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    plain = onnx.load(model)
    metadata = {entry.key: entry.value for entry in plain.metadata_props}
    del metadata[KEY]
    onnx.helper.set_model_props(plain, metadata)
    onnx.save(plain, model)
    text = exposition(model, small_dataset.test_images[:256])
    assert f"\ninference_batch_rows_sum{MODEL} 512.0\n" in text
    assert f"\ninference_drift_rank{MODEL} NaN\n" in text
    assert caplog.text.count("no drift is noticed") == 1


def test_the_shares_of_the_held_out_images_are_metrics(model: Path, small_dataset: Dataset) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    shares = json.loads(metadata[KEY])["shares"]
    text = exposition(model, small_dataset.test_images[:1])
    for label, share in enumerate(shares):
        assert f'inference_reference_share{{label="{label}",model="batchnorm_mlp"}} {share}' in text


def test_a_version_without_a_reference_leaves_none_of_the_one_that_it_replaces(model: Path) -> None:
    engine, metrics = Engine.read(model), Metrics()
    ServedModel(engine, metrics)
    engine.reference = None
    ServedModel(engine, metrics)
    shares = re.findall(r"inference_reference_share{.*} (.*)", metrics.exposition().decode())
    assert shares == ["NaN"] * 10


@pytest.mark.slow
def test_two_workers_count_an_alarm_for_each_corruption_and_none_for_test_images_or_one_class(
    tmp_path: Path, record_property: Record
) -> None:
    dataset, path = load_dataset(), tmp_path / "model.onnx"
    network = initial_network("batchnorm_mlp", 0)
    params = Recipe(epochs=3, batch_size=64, lr=0.01, seed=0, device="cpu")
    assert list(train(network, dataset, params))
    metadata = held_out_reference(network.eval(), dataset.test_images[HELD_OUT])
    path.write_bytes(to_onnx(network, "batchnorm_mlp", metadata).SerializeToString())
    images, labels = dataset.test_images[UNSEEN], dataset.test_labels[UNSEEN]
    random = np.random.default_rng(0)

    def send(address: str, stream: np.ndarray) -> None:
        for start in range(0, len(stream), 100):  # each over its own connection, to either worker
            body, headers = raw_request(stream[start : start + 100])
            httpx.post(address + INFER, content=body, headers=headers).raise_for_status()

    def alarms(address: str) -> float:
        lines = httpx.get(f"{address}/metrics").text.splitlines()
        (line,) = (one for one in lines if one.startswith("inference_drift_alarms_total{"))
        return float(line.split()[-1])

    with serving(path, "--workers", "2") as (_, address):
        for rows in (slice(None), *(labels == label for label in range(10))):
            send(address, random.choice(images[rows], 5000))
        assert alarms(address) == 0
        seen = {}
        for name, change in PHOTOMETRIC.items():
            before = alarms(address)
            send(address, change(random.choice(images, 1000)))
            seen[name] = int(alarms(address) - before)
            send(address, random.choice(images, 1000))
    record_property("seen", f"alarms in 1,000 images: {seen}")
    assert all(seen.values())
