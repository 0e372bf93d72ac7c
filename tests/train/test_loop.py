import random

import numpy as np
import pytest
import torch
from torch import Tensor

from models import NETWORKS
from pipeline.core.history import Epoch
from pipeline.core.params import Recipe
from pipeline.data.load import Dataset
from pipeline.data.tensors import scale_pixels, to_tensors
from pipeline.train.loop import choose_device, evaluate, initial_network, split, train
from pipeline.train.step import Step
from tests.support import Stranger


@pytest.mark.parametrize("key", NETWORKS)
def test_the_same_seed_gives_the_same_bits(
    key: str, small_dataset: Dataset, train_params: Recipe
) -> None:
    first, second = (initial_network(key, seed=1) for _ in range(2))
    rows = [list(train(network, small_dataset, train_params)) for network in (first, second)]
    assert rows[0] == rows[1]
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_another_seed_gives_other_weights() -> None:
    weights = [initial_network("simple_mlp", seed).state_dict()["fc1.weight"] for seed in (0, 1)]
    assert not torch.equal(*weights)


def test_both_mlps_begin_with_the_same_linear_layers() -> None:
    simple, normed = (
        initial_network(key, seed=3).state_dict() for key in ("simple_mlp", "batchnorm_mlp")
    )
    assert all(torch.equal(tensor, normed[name]) for name, tensor in simple.items())


@pytest.mark.parametrize("key", NETWORKS)
def test_an_epoch_is_a_step_for_each_batch(
    key: str, small_dataset: Dataset, train_params: Recipe
) -> None:
    ours, theirs = initial_network(key, 0), initial_network(key, 0)
    params = train_params.model_copy(update={"epochs": 1, "batch_size": 60})  # a last batch of 40
    (epoch,) = train(ours, small_dataset, params)
    x, labels, test_x, test_labels = to_tensors(small_dataset, torch.device("cpu"))
    order = torch.randperm(640, generator=torch.Generator().manual_seed(params.seed))
    step = Step(theirs)
    losses = [step(x[i], labels[i], params.lr) for i in order.split(60)]
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    assert epoch.train_loss == torch.stack(losses).double().mean().item()
    assert (epoch.test_loss, epoch.test_accuracy) == evaluate(theirs, test_x, test_labels)


def test_every_image_is_seen_once_per_epoch_with_its_label_in_a_new_order(
    small_dataset: Dataset, train_params: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def look(x: Tensor, labels: Tensor, _lr: float) -> Tensor:
        assert torch.equal(x, pixels[labels])
        seen.extend(labels.tolist())
        return torch.zeros(())

    monkeypatch.setattr("pipeline.train.optimizer.Step", lambda _network: look)
    pixels = scale_pixels(small_dataset.train_images)
    numbered = small_dataset._replace(train_labels=np.arange(640))
    list(train(initial_network("simple_mlp", 0), numbered, train_params))
    assert sorted(seen[:640]) == sorted(seen[640:]) == list(range(640))
    assert seen[:640] != seen[640:]


def test_evaluate_gives_the_mean_loss_and_the_accuracy_in_eval_mode() -> None:
    network, x = Stranger(), torch.randn(3, 28, 28)  # with dropout
    logits = network.eval()(x)
    labels = logits.argmax(1)
    labels[0] = logits[0].argmin()
    loss, accuracy = evaluate(network.train(), x, labels)
    assert loss == pytest.approx(-logits.log_softmax(1)[range(3), labels].mean().item())
    assert accuracy == pytest.approx(2 / 3)


def test_every_metric_of_an_epoch_is_measured_and_none_is_another(
    small_dataset: Dataset, train_params: Recipe
) -> None:
    recipe = train_params.model_copy(update={"validation_images": 100})
    rows = list(train(initial_network("batchnorm_mlp", 0), small_dataset, recipe))
    values = dict(zip(Epoch._fields, zip(*rows, strict=True), strict=True))
    constant = [name for name, its in values.items() if len(set(its)) == 1]
    assert constant == []
    assert len(set(values.values())) == len(values)


@pytest.mark.parametrize("key", NETWORKS)
def test_every_network_learns(key: str, small_dataset: Dataset, train_params: Recipe) -> None:
    params = train_params.model_copy(update={"epochs": 5, "lr": 0.1})
    *_, last = train(initial_network(key, 0), small_dataset, params)
    assert last.test_accuracy > 0.9


def test_a_network_that_the_pipeline_does_not_know_learns(
    small_dataset: Dataset, train_params: Recipe
) -> None:
    params = train_params.model_copy(update={"epochs": 5, "lr": 0.1})
    torch.manual_seed(0)
    *_, last = train(Stranger(), small_dataset, params)
    assert last.test_accuracy > 0.9


@pytest.mark.parametrize(("batch_size", "steps"), [(64, 10), (60, 11)])  # 60 leaves a batch of 40
def test_a_loss_that_is_not_finite_stops_at_its_epoch_and_step(
    batch_size: int, steps: int, small_dataset: Dataset, train_params: Recipe
) -> None:
    params = train_params.model_copy(update={"lr": 1e30, "batch_size": batch_size})
    message = rf"the loss is (nan|inf) at epoch 1, step \d+ of {steps}: lower train\.lr"
    with pytest.raises(FloatingPointError, match=message):
        list(train(initial_network("simple_mlp", 0), small_dataset, params))


def test_weights_that_are_not_finite_stop_the_training(
    small_dataset: Dataset, train_params: Recipe
) -> None:
    network = initial_network("batchnorm_mlp", 0)
    network.get_buffer("bn1.running_var").fill_(float("inf"))  # which no training loss shows
    with pytest.raises(FloatingPointError, match="not finite after epoch 1"):
        list(train(network, small_dataset, train_params))


def test_a_last_batch_of_one_image_is_an_error(
    small_dataset: Dataset, train_params: Recipe
) -> None:
    params = train_params.model_copy(update={"batch_size": 639})
    with pytest.raises(ValueError, match=r"train\.batch_size .* got 639"):
        list(train(initial_network("batchnorm_mlp", 0), small_dataset, params))


def test_auto_is_the_gpu_if_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to use")
@pytest.mark.parametrize("param", ["train.device", "study.device"])
def test_a_missing_gpu_is_an_error_that_names_the_parameter(param: str) -> None:
    with pytest.raises(ValueError, match=rf"{param} is 'cuda', but .* use 'auto' or 'cpu'"):
        choose_device("cuda", param)


@pytest.mark.gpu
@pytest.mark.parametrize("key", NETWORKS)
def test_the_gpu_trains_as_the_cpu_does(
    key: str, small_dataset: Dataset, train_params: Recipe
) -> None:
    on_gpu = train_params.model_copy(update={"device": "cuda"})
    *_, cpu = train(initial_network(key, 0), small_dataset, train_params)
    *_, gpu = train(initial_network(key, 0), small_dataset, on_gpu)
    assert gpu.train_loss == pytest.approx(cpu.train_loss, rel=1e-3)


def test_validation_images_are_held_out_of_the_training_in_proportion(
    small_dataset: Dataset, train_params: Recipe
) -> None:
    recipe = train_params.model_copy(update={"validation_images": 100})
    training, validation = split(small_dataset.train_labels, recipe)
    assert sorted([*training.tolist(), *validation.tolist()]) == list(range(640))
    shares, of_all = (
        np.bincount(small_dataset.train_labels[part], minlength=10) / len(part)
        for part in (validation.numpy(), np.arange(640))
    )
    assert np.abs(shares - of_all).max() < 0.01
    assert torch.equal(validation, split(small_dataset.train_labels, recipe)[1])
    other = recipe.model_copy(update={"seed": recipe.seed + 1})
    assert not torch.equal(validation, split(small_dataset.train_labels, other)[1])


def test_validation_is_the_evaluation_of_the_images_that_were_held_out(
    small_dataset: Dataset, train_params: Recipe
) -> None:
    recipe = train_params.model_copy(update={"epochs": 1, "validation_images": 100})
    network = initial_network("batchnorm_mlp", 0)
    (row,) = train(network, small_dataset, recipe)
    _, held_out = split(small_dataset.train_labels, recipe)
    x, labels, *_ = to_tensors(small_dataset, torch.device("cpu"))
    assert row[4:] == evaluate(network, x[held_out], labels[held_out])


@pytest.mark.parametrize("images", [5, 640])
def test_too_few_images_for_validation_or_training_are_an_error(
    small_dataset: Dataset, train_params: Recipe, images: int
) -> None:
    recipe = train_params.model_copy(update={"validation_images": images})
    with pytest.raises(ValueError, match=rf"^train\.validation_images = {images}: "):
        next(train(initial_network("simple_mlp", 0), small_dataset, recipe))


def test_augmentation_sees_every_batch_and_has_a_generator_of_its_own(
    small_dataset: Dataset, train_params: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = []

    def flip(x: Tensor, generator: torch.Generator) -> Tensor:
        draws.append(torch.rand((), generator=generator).item())
        return x.flip(-1)

    plain, flipped = (initial_network("simple_mlp", 0) for _ in range(2))
    mirrored = small_dataset._replace(train_images=small_dataset.train_images[..., ::-1].copy())
    list(train(plain, mirrored, train_params))
    monkeypatch.setattr("pipeline.train.loop.augment", flip)
    list(train(flipped, small_dataset, train_params))
    torch.testing.assert_close(flipped.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert len(set(draws)) == 20  # two epochs of ten batches


def test_pythons_and_numpys_generators_are_seeded() -> None:
    drawn = []
    for _ in range(2):
        initial_network("simple_mlp", 2**40 + 3)
        drawn.append((random.random(), np.random.rand()))  # noqa: S311
    assert drawn[0] == drawn[1]
