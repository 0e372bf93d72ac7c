"""Trains one network: `python -m pipeline.train simple_mlp`.

Reads params.yaml and data/, writes artifacts/<key>/weights.safetensors and history.csv. It knows
nothing of Prefect or MLflow: pipeline/flow.py runs it once a network, both at the same time.
"""

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from models import NETWORKS
from pipeline.artifacts import ARTIFACTS, KEYS, history_path, only_one, weights_path, write_whole
from pipeline.data import Mnist, load_mnist
from pipeline.history import Epoch, write_history
from pipeline.params import TrainParams, load_params
from pipeline.step import layers, sgd_step


def normalise(images: np.ndarray) -> Tensor:
    """Return images (N, 28, 28) uint8 as float32 in [-1, 1], bit for bit as torchvision's
    `ToTensor` and `Normalize(0.5, 0.5)` do."""
    return torch.tensor(images, dtype=torch.float32).div_(255).sub_(0.5).div_(0.5)


def choose_device(name: str, param: str = "train.device") -> torch.device:
    """Return the device that a parameter asks for; `auto` is a GPU where there is one.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{param} is 'cuda', but PyTorch sees no GPU: use 'auto' or 'cpu'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def initial_network(key: str, seed: int) -> nn.Module:
    """Return the network with PyTorch's default initial weights; a seed gives the linear
    layers of both networks the same ones."""
    torch.manual_seed(seed)
    return NETWORKS[key]()


def train(network: nn.Module, mnist: Mnist, params: TrainParams) -> Iterator[Epoch]:
    """Train the network in place by plain SGD on cross entropy; yield each epoch as it ends.

    Raises:
        ValueError: the last batch of an epoch would be a single image.
        FloatingPointError: a batch's loss is not finite, the message says at which step; or a
            weight or running statistic is not finite after an epoch.
    """
    if len(mnist.train_images) % params.batch_size == 1:
        raise ValueError(
            f"train.batch_size must not leave a last batch of one image, which has no variance "
            f"to normalise by, got {params.batch_size} for {len(mnist.train_images)} images"
        )
    device = choose_device(params.device)
    network.to(device)
    x = normalise(mnist.train_images).flatten(1).to(device)  # (N, 784)
    labels = torch.from_numpy(mnist.train_labels).to(device)  # (N,)
    test_x = normalise(mnist.test_images).to(device)
    test_labels = torch.from_numpy(mnist.test_labels).to(device)
    order = torch.Generator().manual_seed(params.seed)

    for epoch in range(1, params.epochs + 1):
        start = time.perf_counter()
        losses = train_epoch(network, x, labels, params, order)
        check_finite(losses, epoch)
        test_loss, test_accuracy = evaluate(network, test_x, test_labels)
        if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
            raise FloatingPointError(f"weights are not finite after epoch {epoch}: lower train.lr")
        seconds = time.perf_counter() - start
        yield Epoch(epoch, losses.double().mean().item(), test_loss, test_accuracy, seconds)


def train_epoch(
    network: nn.Module, x: Tensor, labels: Tensor, params: TrainParams, order: torch.Generator
) -> Tensor:
    """Take one step a batch, in a new random order; return the batch losses (steps,) float32."""
    network.train()
    trained_layers = layers(network)
    shuffled = torch.randperm(len(x), generator=order).to(x.device)
    return torch.stack(
        [
            sgd_step(
                trained_layers, x.index_select(0, batch), labels.index_select(0, batch), params.lr
            )
            for batch in shuffled.split(params.batch_size)
        ]
    )


def check_finite(losses: Tensor, epoch: int) -> None:
    """Raise FloatingPointError at the first loss that is NaN or infinite."""
    broken = losses.isfinite().logical_not().nonzero()
    if len(broken):
        step = int(broken[0])
        raise FloatingPointError(
            f"the loss is {losses[step].item()} at epoch {epoch}, step {step + 1} of "
            f"{len(losses)}: lower train.lr"
        )


@torch.inference_mode()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the mean cross entropy and the accuracy on images (N, 28, 28) in eval mode."""
    network.eval()
    logits = network(images)
    loss = nn.functional.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(dim=1) == labels).double().mean().item()


def watch(key: str, epochs: Iterator[Epoch], total: int) -> list[Epoch]:
    """Collect the epochs, showing a progress bar to a person and plain lines to a log."""
    history = []
    with tqdm(epochs, key, total, position=KEYS.index(key), disable=None, unit="epoch") as bar:
        for row in bar:
            history.append(row)
            figures = (
                f"train loss {row.train_loss:.4f}, test loss {row.test_loss:.4f}, "
                f"test accuracy {row.test_accuracy:.2%}"
            )
            bar.set_postfix_str(figures)
            if bar.disable:
                print(f"{key} epoch {row.epoch}/{total}: {figures}", flush=True)
    return history


def main() -> None:
    """Train the named network on all of MNIST with one thread."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description=__doc__)
    parser.add_argument("key", choices=KEYS, help="the network to train")
    key = parser.parse_args().key
    torch.set_num_threads(1)
    with only_one(ARTIFACTS / key / "train.lock"):  # a killed pipeline may leave a trainer behind
        try:
            params = load_params().train
            network = initial_network(key, params.seed)
            history = watch(key, train(network, load_mnist(), params), params.epochs)
        except (OSError, ValueError, FloatingPointError) as error:
            sys.exit(f"error: {key}: {error}")
        write_history(history_path(key), history)
        weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
        write_whole(weights_path(key), save(weights))


if __name__ == "__main__":
    main()
