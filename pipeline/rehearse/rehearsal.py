"""The rehearsal: all that a network must be able to do, on a few random images."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnxruntime as ort
import torch
from safetensors.torch import load
from torch import nn

from models import NETWORKS
from pipeline.core import files
from pipeline.core.params import Recipe, load_params, own_params
from pipeline.data.dataset import CLASSES, IMAGE_SHAPE
from pipeline.data.tensors import scale_pixels
from pipeline.export.graph import to_onnx
from pipeline.train.loop import initial_network
from pipeline.train.optimizer import trainer_of
from pipeline.train.weights import weights_of

IMAGES, CALLS = 8, 64
TOLERANCE = 1e-3  # relative; the certificate's is for trained networks
DOCS = "docs/make-it-yours.md#when-a-network-is-refused"


def rehearse() -> None:
    """Rehearse all networks, and write how many parameters each has.

    Raises:
        ValueError: one of them cannot be built, trained, saved or exported.
    """
    train = load_params().train.model_dump()
    recipes = {key: Recipe.model_validate(own_params(key, train)) for key in NETWORKS}
    parameters = {key: rehearse_network(key, recipe) for key, recipe in recipes.items()}
    files.write_json(files.PARAMETERS, parameters)
    print(*(f"{NETWORKS[key].title}: {n:,} parameters" for key, n in parameters.items()), sep="\n")


def rehearse_network(key: str, recipe: Recipe) -> int:
    """Return the number of a network's parameters, after doing with it what the stages will do.

    Raises:
        ValueError: it is refused; the message says what it cannot do, and why.
    """
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *IMAGE_SHAPE), np.uint8)
    x, labels = scale_pixels(images), torch.arange(IMAGES) % CLASSES
    with refusing(key, "be built"):
        network = initial_network(key, recipe.seed)
    with refusing(key, "classify images"), torch.inference_mode():
        logits = network.eval()(x)
        if logits.shape != (IMAGES, CLASSES) or logits.dtype != torch.float32:
            raise ValueError(
                f"forward returns {logits.dtype} {tuple(logits.shape)} for images "
                f"{tuple(x.shape)}, and not logits, float32 {(IMAGES, CLASSES)}"
            )
        if any(not torch.equal(network(x), logits) for _ in range(CALLS)):
            raise ValueError("in eval mode, forward returns other logits at another call")
    with refusing(key, "be trained"):
        before = plain_values(network).items()
        step, end_epoch = trainer_of(network, recipe)
        for _ in range(2):
            step(x, labels)
        end_epoch()
        changed = ", ".join(sorted(dict(plain_values(network).items() - before)))
        if changed:
            raise ValueError(f"forward changes {changed}, which is not saved with the weights")
    with refusing(key, "be saved"), torch.inference_mode():
        saved = NETWORKS[key].build().eval()
        saved.load_state_dict(load(weights_of(network)))
        logits = network.eval()(x)
        if not torch.equal(saved(x), logits):
            raise ValueError("with the saved weights, forward returns other logits")
    with refusing(key, "be exported"):
        model = ort.InferenceSession(to_onnx(saved, key, {}).SerializeToString())
        (answers,) = model.run(["logits"], {"images": images})
        scale = logits.abs().max().item()
        if not np.abs(answers - logits.numpy()).max() <= TOLERANCE * max(1, scale):
            raise ValueError("the exported file returns other logits")
    return sum(parameter.numel() for parameter in network.parameters())


@contextmanager
def refusing(key: str, what: str) -> Iterator[None]:
    """Turn any error of the block into one that says what the network cannot do."""
    try:
        yield
    except Exception as error:  # PyTorch raises a different type for each cause
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{key} cannot {what}: {kind}{error}\nSee {DOCS}") from error


def plain_values(network: nn.Module) -> dict[str, object]:
    """Return the numbers and texts that a network's modules have as attributes, by name."""
    return {
        f"{name}.{attribute}".lstrip("."): value
        for name, module in network.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, int | float | str) and attribute != "training"
    }
