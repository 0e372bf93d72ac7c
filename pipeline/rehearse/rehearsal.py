"""The rehearsal: every network does on a few random images what the later stages will ask of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from models import NETWORKS
from pipeline.core import files
from pipeline.core.params import Recipe, load_params, own_params
from pipeline.core.weights import restored, weights_of
from pipeline.data.dataset import CLASSES, IMAGE_SHAPE
from pipeline.data.tensors import scale_pixels
from pipeline.export.graph import self_test, to_onnx
from pipeline.train.loop import choose_device, initial_network
from pipeline.train.optimizer import trainer_of

IMAGES, CALLS = 8, 64
TOLERANCE = 1e-3  # relative; the certificate's is for trained networks
DOCS = "docs/make-it-yours.md#when-a-network-is-refused"
COLOR = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal


def rehearse() -> None:
    """Rehearse all networks, and write how many parameters each has.

    Raises:
        ValueError: some of them cannot be built, trained, saved or exported.
    """
    train = load_params().train.model_dump()
    parameters, problems = {}, []
    for key, network in NETWORKS.items():
        try:
            recipe = Recipe.model_validate(own_params(key, train))
            parameters[key] = rehearse_network(key, recipe)
            print(f"{network.title}: {parameters[key]:,} parameters", flush=True)
        except ValueError as error:
            problems.append(f"{key} {error}")
    if problems:
        raise ValueError("\n".join([*problems, f"See {DOCS}"]))
    files.write_json(files.PARAMETERS, parameters)


def rehearse_network(key: str, recipe: Recipe) -> int:
    """Return the number of a network's parameters, after all that it must be able to do.

    Raises:
        ValueError: it is refused; the message says what it cannot do, and why.
    """
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *IMAGE_SHAPE), np.uint8)
    x, labels = scale_pixels(images), torch.arange(IMAGES) % CLASSES
    with refusing("be built"):
        network = initial_network(key, recipe.seed)
    with refusing("classify images"):
        check_logits(network, x)
    with refusing("be trained"):
        choose_device(recipe.device)
        before = plain_values(network)
        train, end_epoch = trainer_of(network, recipe)
        for _ in range(2):
            train(x, labels)
        end_epoch()
        check_counters(network, x, before)
    with refusing("be saved"):
        saved = restored(key, weights_of(network))
        logits = evaluate(network, x)
        if not torch.equal(evaluate(saved, x), logits):
            raise ValueError("with the saved weights, forward returns other logits")
    with refusing("be exported"):
        model = to_onnx(saved, key, self_test(saved)).SerializeToString()
        session = ort.InferenceSession(model)
        for size in (IMAGES, 1):
            (answers,) = session.run(["logits"], {"images": images[:size]})
            if not close(torch.from_numpy(answers), logits[:size]):
                raise ValueError("the exported file returns other logits")
    return sum(parameter.numel() for parameter in network.parameters())


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn any error of the block into one that says what a network cannot do."""
    try:
        yield
    except Exception as error:  # PyTorch raises a different type for each cause
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"cannot {what}: {kind}{COLOR.sub('', str(error))}") from error


@torch.no_grad()
def evaluate(network: nn.Module, x: Tensor) -> Tensor:
    """Return a network's logits (N, CLASSES) in eval mode for images x (N, *IMAGE_SHAPE)."""
    return network.eval()(x)


def close(logits: Tensor, expected: Tensor) -> bool:
    """Return whether logits are the expected ones, but for rounding."""
    scale = max(1.0, expected.abs().max().item())
    return bool(((logits - expected).abs() <= TOLERANCE * scale).all())


def check_logits(network: nn.Module, x: Tensor) -> None:
    """Raise ValueError unless the network returns finite logits that depend on each image alone."""
    logits = evaluate(network, x)
    if not isinstance(logits, Tensor):
        raise ValueError(f"forward returns a {type(logits).__name__}, and not a tensor of logits")
    if logits.shape != (len(x), CLASSES) or logits.dtype != torch.float32:
        raise ValueError(
            f"forward returns {logits.dtype} {tuple(logits.shape)} for images {tuple(x.shape)}, "
            f"and not logits, float32 {(len(x), CLASSES)}"
        )
    if not logits.isfinite().all():
        raise ValueError("forward returns logits that are NaN or infinite")
    if any(not torch.equal(evaluate(network, x), logits) for _ in range(CALLS)):
        raise ValueError("in eval mode, forward returns other logits at another call")
    if not close(evaluate(network, x[:1]), logits[:1]):
        raise ValueError("in eval mode, forward returns other logits without the other images")


def plain_values(network: nn.Module) -> dict[tuple[nn.Module, str], object]:
    """Return the numbers that a network's modules have as attributes."""
    return {
        (module, attribute): value
        for module in network.modules()
        for attribute, value in vars(module).items()
        if isinstance(value, int | float) and attribute != "training"
    }


def check_counters(
    network: nn.Module, x: Tensor, before: dict[tuple[nn.Module, str], object]
) -> None:
    """Raise ValueError if logits depend on a number that training changes, since it is not saved.

    before: the network's plain values before the training.
    """
    logits = evaluate(network, x)
    for (module, name), value in plain_values(network).items():
        if value != before.get((module, name)):
            setattr(module, name, 10**9)
            if not torch.equal(evaluate(network, x), logits):
                raise ValueError(f"forward counts in {name}, which is not saved with the weights")
            setattr(module, name, value)
