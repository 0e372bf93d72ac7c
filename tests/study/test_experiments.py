import subprocess
import sys
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pipeline.core import files
from pipeline.core.params import StudyParams, TrainParams
from pipeline.data.load import Dataset, load_dataset
from pipeline.data.tensors import to_tensors
from pipeline.study import activations, overfitting, scale, speed
from pipeline.study.deep import deep_network
from pipeline.study.experiments import EXPERIMENTS, Tables, write_tables
from pipeline.study.pair import NORMED, PAIR, PLAIN
from pipeline.train.loop import initial_network, select, train
from pipeline.train.step import Step
from tests.support import read_tables

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return load_dataset()


@pytest.mark.parametrize("key", PAIR)
def test_speed_measures_exactly_what_the_main_training_does(
    key: str, small_dataset: Dataset, train_params: TrainParams
) -> None:
    seed, lr, epochs = train_params.seed, train_params.lr, train_params.epochs
    history = list(train(initial_network(key, seed), small_dataset, train_params))
    tensors = to_tensors(small_dataset, CPU)
    _, table = speed.learn(key, lr, epochs, seed, tensors)
    updates = table["update"].diff().fillna(table["update"])  # since the previous row
    sums = (table["train_loss"] * updates).groupby((table["epoch"] - 1e-9) // 1).sum()
    losses = sums / (len(small_dataset.train_images) / speed.BATCH_SIZE)
    assert losses.tolist() == pytest.approx([row.train_loss for row in history], rel=0, abs=1e-9)
    ends = table[table["epoch"] % 1 == 0]
    assert ends["test_accuracy"].tolist() == [row.test_accuracy for row in history]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_takes_the_main_trainings_steps(
    experiment: str, mnist: Dataset, study_params: StudyParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_step: Step, _x: Tensor, _labels: Tensor, _lr: float) -> Tensor:
        raise InterruptedError

    monkeypatch.setattr(Step, "__call__", stop)
    with pytest.raises(InterruptedError):
        EXPERIMENTS[experiment](0, study_params, mnist, CPU)


def test_accuracy_is_measured_seven_times_in_the_first_epoch_then_twice() -> None:
    assert sorted(speed.measured_updates(2, 938)) == [
        *(134, 268, 402, 536, 670, 804, 938),
        *(1407, 1876),
    ]


def linears(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def assert_twins(plain: nn.Module, normed: nn.Module) -> None:
    """The same linear layers, and batch normalization behind all but the last of one's."""
    for layer, twin in zip(linears(plain), linears(normed), strict=True):
        assert torch.equal(layer.weight, twin.weight)
        assert torch.equal(layer.bias, twin.bias)
    norms = [
        sum(isinstance(module, nn.BatchNorm1d) for module in network.modules())
        for network in (plain, normed)
    ]
    assert norms == [0, len(linears(normed)) - 1]


def test_twins_start_from_the_same_linear_layers_at_every_scale() -> None:
    for std in (*scale.SCALES, *activations.SCALES.values()):
        assert_twins(deep_network(PLAIN, std, seed=3), deep_network(NORMED, std, seed=3))


def test_another_scale_multiplies_the_same_weights() -> None:
    one, small = (deep_network(PLAIN, std, seed=3) for std in (1.0, 0.01))
    for layer, scaled in zip(linears(one), linears(small), strict=True):
        torch.testing.assert_close(scaled.weight, 0.01 * layer.weight)
        assert scaled.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not scaled.bias.any()


@pytest.mark.parametrize("shape", overfitting.SHAPES)
def test_twins_start_from_the_same_linear_layers_in_every_shape(shape: str) -> None:
    build = overfitting.SHAPES[shape].build
    for plain, normed in product(overfitting.DROPOUTS, repeat=2):
        assert_twins(build(PLAIN, plain, seed=3), build(NORMED, normed, seed=3))


def test_twins_of_the_speed_experiment_start_from_the_same_linear_layers() -> None:
    assert_twins(initial_network(PLAIN, seed=3), initial_network(NORMED, seed=3))


@pytest.mark.parametrize("key", PAIR)
def test_the_shape_with_two_hidden_layers_is_the_tutorials_network(key: str) -> None:
    x = torch.rand(64, 28, 28) * 2 - 1
    network = overfitting.SHAPES["two"].build(key, dropout=0, seed=3)
    assert torch.equal(network.train()(x), initial_network(key, seed=3).train()(x))


def test_the_shape_with_five_hidden_layers_starts_from_hes_weights() -> None:
    first, second, *_ = linears(overfitting.SHAPES["five"].build(PLAIN, dropout=0, seed=3))
    assert first.weight.std().item() == pytest.approx((2 / 784) ** 0.5, rel=0.05)
    assert second.weight.std().item() == pytest.approx((2 / 100) ** 0.5, rel=0.05)


def test_a_unit_that_is_0_for_every_image_is_dead() -> None:
    found = activations.describe(torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    assert (found["zeros"], found["dead"]) == (0.75, 0.5)
    overflowed = activations.describe(torch.tensor([[float("inf"), 1.0]]))
    assert all(value != value for value in overflowed.values())


def test_the_layers_inspected_are_those_of_forward() -> None:
    network = deep_network(NORMED, 0.1, seed=0)
    x, labels = torch.rand(50, 28, 28), torch.randint(10, (50,))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    layers = activations.inspect(network, x, labels)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    logits = network.train()(x)
    nn.functional.cross_entropy(logits, labels).backward()
    assert torch.equal(linears(network)[-1](layers[-1][0]), logits)
    for (_, gradient), linear in zip(layers, linears(network), strict=False):
        torch.testing.assert_close(gradient, linear.weight.grad, rtol=0, atol=0)


def of_seed(tables: Tables, seed: int) -> Tables:
    """The rows of one seed, without its number."""
    return {
        name: table[table["seed"] == seed].drop(columns="seed").reset_index(drop=True)
        for name, table in tables.items()
    }


def test_every_table_has_both_networks_and_other_numbers_for_each_seed(
    study_tables: Tables,
) -> None:
    first, second = (of_seed(study_tables, seed) for seed in range(2))
    for name, table in study_tables.items():
        assert set(table["network"]) == set(PAIR), name
        assert len(first[name]) == len(second[name]), name
        assert not first[name].equals(second[name]), name


MEASURE_AGAIN = """
import sys
from pathlib import Path

import torch

import models

models.NETWORKS["stranger"] = models.Network("tests.support:Stranger", "Stranger", "#009E73", "^")

from pipeline.core import files
from pipeline.core.params import StudyParams
from pipeline.data.load import load_dataset
from pipeline.study.experiments import EXPERIMENTS
from pipeline.study.experiments import write_tables

torch.set_num_threads(1)
files.STUDY = Path(sys.argv[1])
params = StudyParams.model_validate_json(sys.argv[2])
for measure in EXPERIMENTS.values():
    write_tables(measure(1, params, load_dataset(), torch.device("cpu")))
"""


@pytest.mark.slow
def test_a_seed_gives_the_same_tables_again_even_with_a_third_network_in_models(
    study_tables: Tables,
    study_params: StudyParams,
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", MEASURE_AGAIN, str(tmp_path), study_params.model_dump_json()]
    subprocess.run(command, cwd=files.ROOT, check=True)
    again, expected = of_seed(read_tables(tmp_path), 1), of_seed(study_tables, 1)
    assert again.keys() == expected.keys()
    for name, table in again.items():
        pd.testing.assert_frame_equal(table, expected[name], check_exact=True, obj=name)


def test_tables_are_restored_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STUDY", tmp_path)
    torch.manual_seed(0)
    table = pd.DataFrame({"value": torch.rand(1000, dtype=torch.float64).numpy()})
    write_tables({"values": table})
    restored = read_tables(tmp_path)["values"]
    pd.testing.assert_frame_equal(restored, table, check_exact=True)


@pytest.fixture
def two_layers_at_one_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a quarter of the variants of experiment `overfitting`, for speed."""
    monkeypatch.setattr(overfitting, "SHAPES", {"two": overfitting.SHAPES["two"]})
    monkeypatch.setattr(overfitting, "LRS", (0.1,))


@pytest.mark.usefixtures("two_layers_at_one_rate")
def test_every_seed_overfits_images_of_its_own(
    mnist: Dataset, study_params: StudyParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def remember(batch: Tensor, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(x)
        return select(batch, x, labels)

    monkeypatch.setattr(overfitting, "select", remember)
    for seed in range(2):
        overfitting.measure(seed, study_params, mnist, CPU)
    first, second = seen[0], seen[-1]
    assert first.shape == second.shape == (300, 28, 28)
    assert len(torch.cat([first, second]).flatten(1).unique(dim=0)) > 590


@pytest.mark.usefixtures("two_layers_at_one_rate")
def test_all_variants_of_a_seed_see_the_same_batches_of_300_images(
    mnist: Dataset, study_params: StudyParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def remember(batch: Tensor, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(batch)
        assert len(x) == 300
        return select(batch, x, labels)

    monkeypatch.setattr(overfitting, "select", remember)
    overfitting.measure(0, study_params, mnist, CPU)
    batches = torch.stack(seen).reshape(4, study_params.overfitting_epochs, 3, 100)
    assert all(torch.equal(variant, batches[0]) for variant in batches)
    for epoch in batches[0]:
        assert epoch.flatten().sort().values.tolist() == list(range(300))
