import subprocess
import sys

import numpy as np
import pytest
import torch
from torchvision import transforms

from models import NETWORKS
from pipeline.artifacts import KEYS, ROOT
from pipeline.data import Mnist
from pipeline.params import TrainParams
from pipeline.train import choose_device, initial_network, normalise, train, train_epoch


def test_normalise_is_torchvisions_to_the_bit() -> None:
    image = np.arange(784, dtype=np.uint8).reshape(28, 28)  # every byte
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    assert torch.equal(normalise(image[None]), theirs(image))


@pytest.mark.parametrize("key", KEYS)
def test_the_same_seed_gives_the_same_bits(
    key: str, small_mnist: Mnist, train_params: TrainParams
) -> None:
    first, second = (initial_network(key, seed=1) for _ in range(2))
    losses = [[row[:4] for row in train(n, small_mnist, train_params)] for n in (first, second)]
    assert losses[0] == losses[1]
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_another_seed_gives_other_weights() -> None:
    weights = [initial_network("simple_mlp", seed).state_dict()["fc1.weight"] for seed in (0, 1)]
    assert not torch.equal(*weights)


def test_both_networks_begin_with_the_same_linear_layers() -> None:
    simple, normed = (initial_network(key, seed=3).state_dict() for key in KEYS)
    assert all(torch.equal(tensor, normed[name]) for name, tensor in simple.items())


@pytest.mark.parametrize("key", KEYS)
def test_the_epochs_loss_is_the_mean_of_its_batch_losses(
    key: str, small_mnist: Mnist, train_params: TrainParams
) -> None:
    (first, _) = train(initial_network(key, 0), small_mnist, train_params)
    x = normalise(small_mnist.train_images).flatten(1)
    labels = torch.from_numpy(small_mnist.train_labels)
    order = torch.Generator().manual_seed(train_params.seed)
    losses = train_epoch(initial_network(key, 0), x, labels, train_params, order)
    assert losses.shape == (10,)
    assert first.train_loss == losses.double().mean().item()


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own(
    small_mnist: Mnist, train_params: TrainParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def look(_layers: object, x: torch.Tensor, _labels: object, _lr: float) -> torch.Tensor:
        seen.extend(x[:, 0].tolist())
        return torch.zeros(())

    monkeypatch.setattr("pipeline.train.sgd_step", look)
    x = torch.arange(640.0)[:, None]
    order = torch.Generator().manual_seed(0)
    for _ in range(2):
        train_epoch(NETWORKS["simple_mlp"](), x, torch.zeros(640).long(), train_params, order)
    assert sorted(seen[:640]) == sorted(seen[640:]) == list(range(640))
    assert seen[:640] != seen[640:]


def test_both_networks_learn(small_mnist: Mnist, train_params: TrainParams) -> None:
    params = train_params.model_copy(update={"epochs": 5, "lr": 0.1})
    for key in KEYS:
        *_, last = train(initial_network(key, 0), small_mnist, params)
        assert last.test_accuracy > 0.9, key


def test_a_loss_that_is_not_finite_stops_at_its_epoch_and_step(
    small_mnist: Mnist, train_params: TrainParams
) -> None:
    params = train_params.model_copy(update={"lr": 1e30})
    with pytest.raises(FloatingPointError, match=r"the loss is .* at epoch 1, step \d+ of 10"):
        list(train(initial_network("simple_mlp", 0), small_mnist, params))


def test_weights_that_are_not_finite_stop_the_training(
    small_mnist: Mnist, train_params: TrainParams
) -> None:
    network = initial_network("batchnorm_mlp", 0)
    network.bn1.running_var.fill_(float("inf"))  # which no training loss shows
    with pytest.raises(FloatingPointError, match="not finite after epoch 1"):
        list(train(network, small_mnist, train_params))


def test_a_last_batch_of_one_image_is_an_error(
    small_mnist: Mnist, train_params: TrainParams
) -> None:
    params = train_params.model_copy(update={"batch_size": 639})
    with pytest.raises(ValueError, match=r"train\.batch_size .* got 639"):
        list(train(initial_network("batchnorm_mlp", 0), small_mnist, params))


def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to use")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"train\.device is 'cuda'"):
        choose_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and its driver")
@pytest.mark.parametrize("key", KEYS)
def test_the_gpu_trains_as_the_cpu_does(
    key: str, small_mnist: Mnist, train_params: TrainParams
) -> None:
    on_gpu = train_params.model_copy(update={"device": "cuda"})
    *_, cpu = train(initial_network(key, 0), small_mnist, train_params)
    *_, gpu = train(initial_network(key, 0), small_mnist, on_gpu)
    assert gpu.train_loss == pytest.approx(cpu.train_loss, rel=1e-3)


def test_an_unknown_network_is_an_error_that_names_the_known_ones() -> None:
    command = [sys.executable, "-m", "pipeline.train", "transformer"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "simple_mlp" in done.stderr
