"""Trains one network in memory, epoch by epoch. It reads and writes no files."""

import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from models import NETWORKS
from pipeline.core.history import Epoch
from pipeline.core.params import Recipe
from pipeline.data.load import Dataset
from pipeline.data.tensors import logits_of, to_tensors
from pipeline.train.augment import augment
from pipeline.train.optimizer import trainer_of


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
    differ only in batch normalization the same initial linear layers.

    Python's and NumPy's generators are seeded as well, for a `forward` that uses them.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return NETWORKS[key].build()


def train(network: nn.Module, dataset: Dataset, recipe: Recipe) -> Iterator[Epoch]:
    """Train the network in place on cross entropy; yield each epoch as it ends.

    Raises:
        ValueError: the recipe's optimizer, schedule or number of validation images is impossible,
            or the last batch of an epoch would be a single image.
        FloatingPointError: a loss, a weight or a running statistic is not finite.
    """
    device = choose_device(recipe.device)
    network.to(device)
    x, labels, test_x, test_labels = to_tensors(dataset, device)
    training, validation = split(dataset.train_labels, recipe)
    held_out = select(validation.to(device), x, labels)
    if recipe.validation_images:
        x, labels = select(training.to(device), x, labels)
    if len(x) % recipe.batch_size == 1:
        raise ValueError(
            f"train.batch_size must not leave a last batch of one image, which has no variance "
            f"to normalize by, got {recipe.batch_size} for {len(x)} images"
        )
    step, end_epoch = trainer_of(network, recipe)
    order, augmentation = (
        torch.Generator().manual_seed(seed) for seed in (recipe.seed, recipe.seed + 2**63)
    )

    for epoch in range(1, recipe.epochs + 1):
        losses = []
        for batch in shuffle(len(x), recipe.batch_size, order, device):
            images, answers = select(batch, x, labels)
            losses.append(step(augment(images, augmentation), answers))
        end_epoch()
        train_loss = mean_loss(torch.stack(losses), epoch)
        measured: tuple[float, ...] = evaluate(network, test_x, test_labels)
        if recipe.validation_images:
            measured += evaluate(network, *held_out)
        if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
            raise FloatingPointError(f"weights are not finite after epoch {epoch}: lower train.lr")
        yield Epoch(epoch, train_loss, *measured)


def split(labels: np.ndarray, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Return the indices (N,) int64 of the training images that train and of those that validate,
    which have each class in proportion.

    Raises:
        ValueError: there are too few images.
    """
    images = torch.arange(len(labels))
    if not recipe.validation_images:
        return images, images[:0]
    from sklearn.model_selection import train_test_split  # takes a second to import

    random_state = np.random.RandomState(np.random.MT19937(recipe.seed))
    try:
        return train_test_split(
            images, test_size=recipe.validation_images, random_state=random_state, stratify=labels
        )
    except ValueError as error:
        raise ValueError(
            f"train.validation_images = {recipe.validation_images}: {error}"
        ) from error


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
    """Return the mean cross entropy and the accuracy in eval mode for images x (N, …) float32."""
    logits = logits_of(network.eval(), x)
    loss = nn.functional.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(dim=1) == labels).double().mean().item()
