import pandas as pd
import pytest
import torch

from pipeline.artifacts import KEYS
from pipeline.data import Mnist, load_mnist
from pipeline.params import StudyParams, TrainParams
from pipeline.study import overfitting
from pipeline.study.activations import describe
from pipeline.study.deep import deep_networks, he_scales, standard_weights
from pipeline.study.experiments import EXPERIMENTS
from pipeline.study.speed import learn, measured_updates, source_networks
from pipeline.train import initial_network, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    return load_mnist()


@pytest.mark.parametrize("key", KEYS)
def test_speed_begins_with_the_weights_of_the_main_training(key: str) -> None:
    weights = initial_network(key, seed=3).state_dict()
    for number, layer in enumerate(source_networks(key, 2, 3, CPU), start=1):
        for member in range(2):
            assert torch.equal(layer.weight[member], weights[f"fc{number}.weight"])
            assert torch.equal(layer.bias[member, :, 0], weights[f"fc{number}.bias"])


@pytest.mark.parametrize("key", KEYS)
def test_speed_measures_what_the_main_training_does(
    key: str, small_mnist: Mnist, train_params: TrainParams
) -> None:
    history = list(train(initial_network(key, 0), small_mnist, train_params))
    table = learn(key, (0.01, 0.1), train_params.epochs, 0, small_mnist, CPU)
    found = table[(table["lr"] == 0.01) & table["epoch"].isin([1, 2])]
    expected = [row.test_accuracy for row in history]
    assert found["test_accuracy"].tolist() == pytest.approx(expected, abs=1e-9)
    second = table[(table["lr"] == 0.01) & (table["epoch"] > 1)]["train_loss"].mean()
    assert second == pytest.approx(history[1].train_loss, abs=1e-5)


def test_accuracy_is_measured_seven_times_in_the_first_epoch_then_twice() -> None:
    assert measured_updates(2, 938) == [134, 268, 402, 536, 670, 804, 938, 1407, 1876]


def test_twins_begin_with_the_same_weights_at_every_scale() -> None:
    weights = standard_weights(torch.Generator().manual_seed(0))
    scales = torch.tensor([1.0, 0.01])[:, None].expand(-1, 6)
    plain, normed = (deep_networks(weights, scales, normed, CPU) for normed in (False, True))
    for layer, twin in zip(plain, normed, strict=True):
        assert torch.equal(layer.weight, twin.weight)
        torch.testing.assert_close(layer.weight[1], 0.01 * layer.weight[0])
    assert [bool(layer.norm) for layer in normed] == [True] * 5 + [False]


def test_he_scales_are_of_each_layers_inputs() -> None:
    assert he_scales()[:2].tolist() == pytest.approx([(2 / 784) ** 0.5, (2 / 100) ** 0.5])


def test_a_unit_that_never_answers_is_dead() -> None:
    found = describe(torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    assert (found["zeros"], found["dead"]) == (0.75, 0.5)
    assert all(value != value for value in describe(torch.tensor([[float("inf"), 1.0]])).values())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_measures_both_networks_and_the_same_numbers_twice(
    experiment: str, mnist: Mnist, study_params: StudyParams
) -> None:
    first, second, other = (
        EXPERIMENTS[experiment](seed, study_params, mnist, CPU) for seed in (1, 1, 2)
    )
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, second[name], check_exact=True)
        assert not table.drop(columns="seed").equals(other[name].drop(columns="seed")), name
        assert set(table["network"]) == set(KEYS)


def test_every_seed_overfits_images_of_its_own(
    mnist: Mnist, study_params: StudyParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = overfitting.begin
    monkeypatch.setattr(
        overfitting, "begin", lambda shape, key, _seed, cpu: begin(shape, key, 0, cpu)
    )
    tables = [
        overfitting.measure(seed, study_params, mnist, CPU)["overfitting"] for seed in range(2)
    ]
    without = [table[table["dropout"] == 0].drop(columns="seed") for table in tables]
    assert not without[0].equals(without[1])
