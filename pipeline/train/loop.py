"""Trains one network in memory, epoch by epoch. It reads and writes no files."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from models import NETWORKS
from pipeline.core.history import Epoch
from pipeline.core.params import TrainParams
from pipeline.data.load import Dataset
from pipeline.data.tensors import to_tensors
from pipeline.train.step import Step


def choose_device(name: str, param: str = "train.device") -> torch.device:
    """Return the device that a parameter names; `auto` is a GPU if there is one.

    Raises:
        ValueError: the parameter names a GPU and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{param} is 'cuda', but PyTorch sees no GPU: use 'auto' or 'cpu'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def initial_network(key: str, seed: int) -> nn.Module:
    """Return the network with PyTorch's default initial weights; the same seed gives networks that
    differ only in batch normalization the same initial linear layers."""
    torch.manual_seed(seed)
    return NETWORKS[key].build()


def train(network: nn.Module, dataset: Dataset, params: TrainParams) -> Iterator[Epoch]:
    """Train the network in place by plain SGD on cross entropy; yield each epoch as it ends.

    Raises:
        ValueError: the last batch of an epoch would be a single image.
        FloatingPointError: a loss, a weight or a running statistic is not finite.
    """
    if len(dataset.train_images) % params.batch_size == 1:
        raise ValueError(
            f"train.batch_size must not leave a last batch of one image, which has no variance "
            f"to normalize by, got {params.batch_size} for {len(dataset.train_images)} images"
        )
    device = choose_device(params.device)
    network.to(device)
    x, labels, test_x, test_labels = to_tensors(dataset, device)
    step = Step(network)
    order = torch.Generator().manual_seed(params.seed)

    for epoch in range(1, params.epochs + 1):
        losses = [
            step(*select(batch, x, labels), params.lr)
            for batch in shuffle(len(x), params.batch_size, order, device)
        ]
        train_loss = mean_loss(torch.stack(losses), epoch)
        test_loss, test_accuracy = evaluate(network, test_x, test_labels)
        if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
            raise FloatingPointError(f"weights are not finite after epoch {epoch}: lower train.lr")
        yield Epoch(epoch, train_loss, test_loss, test_accuracy)


def shuffle(
    images: int, batch_size: int, order: torch.Generator, device: torch.device
) -> tuple[Tensor, ...]:
    """Return the indices of an epoch's batches, each (B,) int64, in a new random order."""
    return torch.randperm(images, generator=order).to(device).split(batch_size)


def select(batch: Tensor, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a batch; indexing, x[batch], takes several times as long."""
    return x.index_select(0, batch), labels.index_select(0, batch)


def mean_loss(losses: Tensor, epoch: int) -> float:
    """Return the mean of an epoch's batch losses, (steps,).

    Raises:
        FloatingPointError: a loss is NaN or infinite; the message names the first such step.
    """
    broken = losses.isfinite().logical_not().nonzero()
    if len(broken):
        step = int(broken[0])
        raise FloatingPointError(
            f"the loss is {losses[step].item()} at epoch {epoch}, step {step + 1} of "
            f"{len(losses)}: lower train.lr"
        )
    return losses.double().mean().item()


@torch.inference_mode()
def evaluate(network: nn.Module, x: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the mean cross entropy and the accuracy in eval mode for x (N, 28, 28) float32."""
    network.eval()
    logits = network(x)
    loss = nn.functional.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(dim=1) == labels).double().mean().item()


@torch.inference_mode()
def predict(network: nn.Module, x: Tensor) -> Tensor:
    """Return the class of each image in eval mode, (N,) int64, for x (N, 28, 28) float32."""
    return network.eval()(x).argmax(dim=1)
