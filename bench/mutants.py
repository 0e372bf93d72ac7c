"""Breaks the export in a dozen ways and shows what catches each: `python -m bench.mutants`.

A check that nothing can fail proves nothing. The exit status is 1 if a mutant goes unseen.
"""

import copy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from tqdm import tqdm

from models import BatchNormMLP
from pipeline import export
from pipeline.certify import compare
from pipeline.data import load_mnist
from pipeline.legs import (
    ask_binary,
    ask_json,
    file_logits,
    hard_images,
    pytorch_logits,
    running_server,
    served_logits,
)
from pipeline.params import TrainParams, load_params
from pipeline.train import initial_network, normalise, train_epoch

CHECKS = ["self-test", "file", "optimised file", "JSON", "binary", "extremes", "same bytes"]
Model = onnx.ModelProto


def plain_export(network: BatchNormMLP, _images: np.ndarray) -> Model:
    """Return the export as it should be."""
    return export.to_onnx(network, 0.9)


def to_bytes(model: Model) -> bytes:
    """Return the model's file."""
    return model.SerializeToString(deterministic=True)


def of_changed(
    change: Callable[[BatchNormMLP, np.ndarray], None], network: BatchNormMLP, images: np.ndarray
) -> Model:
    """Return the export of a changed copy of the network, which agrees with itself."""
    changed = copy.deepcopy(network)
    with torch.no_grad():
        change(changed, images)
    return plain_export(changed, images)


def set_layer(model: Model, number: int, weight: np.ndarray, bias: np.ndarray) -> None:
    """Put other numbers into the model's first, second or third layer."""
    values = {f"weight{number}": weight, f"bias{number}": bias}
    for tensor in model.graph.initializer:
        if tensor.name in values:
            new = numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name)
            tensor.CopyFrom(new)


def batch_statistics(network: BatchNormMLP, images: np.ndarray) -> None:
    """Normalise by the images at hand, as train mode does."""
    z1 = network.fc1(normalise(images[:64]).flatten(1))
    network.bn1.running_mean, network.bn1.running_var = z1.mean(0), z1.var(0)
    z2 = network.fc2(torch.relu(network.bn1(z1)))
    network.bn2.running_mean, network.bn2.running_var = z2.mean(0), z2.var(0)


def initial_statistics(network: BatchNormMLP, _images: np.ndarray) -> None:
    """Normalise by mean 0 and variance 1, as before any training."""
    network.bn1.reset_running_stats()
    network.bn2.reset_running_stats()


def wrong_eps(network: BatchNormMLP, _images: np.ndarray) -> None:
    """Use the eps of another framework."""
    network.bn1.eps = network.bn2.eps = 1e-3


def forget_gamma(network: BatchNormMLP, _images: np.ndarray) -> None:
    """Leave the scale at 1."""
    network.bn1.weight.fill_(1)
    network.bn2.weight.fill_(1)


def forget_beta(network: BatchNormMLP, _images: np.ndarray) -> None:
    """Leave the shift at 0."""
    network.bn1.bias.zero_()
    network.bn2.bias.zero_()


def transpose_weight(network: BatchNormMLP, _images: np.ndarray) -> None:
    """Transpose as much of the second layer as is square."""
    square = network.fc2.weight[:, :64]
    square.copy_(square.T.clone())


def swap_layers(network: BatchNormMLP, images: np.ndarray) -> Model:
    """Return a model with the second batch normalisation behind its ReLU."""
    arrays = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    scale = arrays["bn2.weight"] / np.sqrt(arrays["bn2.running_var"] + network.bn2.eps)
    shift = arrays["bn2.bias"] - arrays["bn2.running_mean"] * scale
    weight, bias = arrays["fc3.weight"], arrays["fc3.bias"]
    model = plain_export(network, images)
    set_layer(model, 2, arrays["fc2.weight"], arrays["fc2.bias"])
    set_layer(model, 3, weight * scale, bias + weight @ shift)
    return model


def normalise_times(times: int, network: BatchNormMLP, images: np.ndarray) -> Model:
    """Return a model that normalises its input so many times instead of once."""
    layer = export.fold_batch_norm(network.fc1, network.bn1)
    for _ in range(times):
        layer = export.fold_normalisation(*layer)
    model = plain_export(network, images)
    set_layer(model, 1, *layer)
    return model


def float16_weights(network: BatchNormMLP, images: np.ndarray) -> Model:
    """Return a model whose weights went through float16."""
    model = plain_export(network, images)
    for number, (weight, bias) in enumerate(export.fold(network), start=1):
        set_layer(model, number, weight.astype(np.float16), bias.astype(np.float16))
    return model


def stale_file(network: BatchNormMLP, images: np.ndarray) -> Model:
    """Return the whole and valid export of another training, an epoch from another seed."""
    other = initial_network("batchnorm_mlp", seed=1)
    assert isinstance(other, BatchNormMLP)
    labels = torch.from_numpy(pytorch_logits(network, images).argmax(1))
    params = TrainParams(epochs=1, batch_size=64, lr=0.01, seed=1, device="cpu")
    train_epoch(other, normalise(images).flatten(1), labels, params, torch.Generator())
    return plain_export(other.eval(), images)


def flipped_bit(network: BatchNormMLP, images: np.ndarray) -> Model:
    """Return a model with the last bit of one weight flipped."""
    model = plain_export(network, images)
    content = bytearray(model.graph.initializer[0].raw_data)
    content[0] ^= 1  # little-endian: the lowest bit of the mantissa
    model.graph.initializer[0].raw_data = bytes(content)
    return model


MUTANTS: dict[str, Callable[[BatchNormMLP, np.ndarray], Model]] = {
    "statistics of a batch (train mode)": partial(of_changed, batch_statistics),
    "statistics never updated": partial(of_changed, initial_statistics),
    "wrong eps (1e-3)": partial(of_changed, wrong_eps),
    "gamma forgotten": partial(of_changed, forget_gamma),
    "beta forgotten": partial(of_changed, forget_beta),
    "batch normalisation and ReLU swapped": swap_layers,
    "weight transposed": partial(of_changed, transpose_weight),
    "normalisation missing": partial(normalise_times, 0),
    "normalisation twice": partial(normalise_times, 2),
    "weights in float16": float16_weights,
    "file of another training": stale_file,
    "one bit flipped": flipped_bit,
}
# What export never made. Of the others it made the bytes, and would make the same ones again.
BEHIND_EXPORT = {"file of another training", "one bit flipped"}


def checks(
    name: str, network: BatchNormMLP, images: np.ndarray, limit: float
) -> dict[str, bool | None]:
    """Return whether each check catches the mutant, None where it has nothing to say.

    A model that fails its self-test is not served. Exporting again shows only what came later.
    """
    content = to_bytes(MUTANTS[name](network, images))
    again = to_bytes(plain_export(network, images)) if name in BEHIND_EXPORT else content
    expected, hard = pytorch_logits(network, images), hard_images(network)["extremes"]
    expected_hard = pytorch_logits(network, hard)
    allowed = limit * np.maximum(1, np.abs(expected_hard).max(axis=1, keepdims=True))

    def wrong(logits: np.ndarray) -> bool:
        return not compare(expected, {"": logits}, expected.argmax(1), limit)["passed"]

    with TemporaryDirectory() as folder:
        model = Path(folder) / "mutant.onnx"
        model.write_bytes(content)
        difference = np.abs(file_logits(model, hard, optimise=False) - expected_hard)
        caught: dict[str, bool | None] = {
            "self-test": False,
            "file": wrong(file_logits(model, images, optimise=False)),
            "optimised file": wrong(file_logits(model, images, optimise=True)),
            "extremes": bool((difference > allowed).any()),
            "same bytes": again != content if name in BEHIND_EXPORT else None,
        }
        try:
            with running_server(model) as client:
                for wire, ask in (("JSON", ask_json), ("binary", ask_binary)):
                    caught[wire] = wrong(served_logits(ask, client, images, request_size=500))
        except RuntimeError:
            caught |= {"self-test": True, "JSON": None, "binary": None}
    return caught


def main() -> None:
    """Print the table."""
    try:
        network, images = export.load_network(), load_mnist().test_images
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    limit = load_params().certify.max_abs_difference
    table = {name: checks(name, network, images, limit) for name in tqdm(MUTANTS, disable=None)}
    words = {True: "caught", False: "", None: "–"}
    print(f"\n| what is wrong | {' | '.join(CHECKS)} |")
    print("| --- " * (1 + len(CHECKS)) + "|")
    for name, caught in table.items():
        print(f"| {name} | {' | '.join(words[caught[check]] for check in CHECKS)} |")
    unseen = [name for name, caught in table.items() if not any(caught.values())]
    if unseen:
        sys.exit(f"error: nothing catches {', '.join(unseen)}")


if __name__ == "__main__":
    main()
