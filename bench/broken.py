"""Wrong exports, bench/mutants.py shows what catches them."""

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from models import BatchNormMLP
from pipeline import export
from pipeline.legs import pytorch_logits
from pipeline.params import TrainParams
from pipeline.train import initial_network, normalise, train_epoch

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
