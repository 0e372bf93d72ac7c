"""Wrong exports; `python -m tests.certify.mutants` shows what catches them."""

import copy
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import onnx
import torch
from onnx import ModelProto, numpy_helper

from models import BatchNormMLP
from pipeline.certify.backends import pytorch_logits
from pipeline.core.params import TrainParams
from pipeline.data.dataset import SCALE, SHIFT
from pipeline.data.load import Dataset
from pipeline.data.tensors import scale_pixels
from pipeline.export.graph import self_test, to_onnx
from pipeline.train.loop import initial_network, train

Mutant = Callable[[BatchNormMLP, np.ndarray], ModelProto]  # of a network and some images


def export(network: BatchNormMLP) -> ModelProto:
    """Return the export as it should be."""
    return to_onnx(network, "batchnorm_mlp", self_test(network))


@cache
def exported(network: BatchNormMLP) -> bytes:
    """Return the export as it should be, made once, for an export takes a second."""
    return export(network).SerializeToString(deterministic=True)


def export_changed(
    change: Callable[[BatchNormMLP, np.ndarray], None], network: BatchNormMLP, images: np.ndarray
) -> ModelProto:
    """Return the export of a changed copy of the network, whose self-test fits the change."""
    changed = copy.deepcopy(network)
    with torch.no_grad():
        change(changed, images)
    return export(changed)


def batch_statistics(network: BatchNormMLP, images: np.ndarray) -> None:
    """Normalize by the statistics of a batch, as train mode does."""
    z1 = network.fc1(scale_pixels(images[:64]).flatten(1))
    network.bn1.running_mean, network.bn1.running_var = z1.mean(0), z1.var(0)
    z2 = network.fc2(torch.relu(network.bn1(z1)))
    network.bn2.running_mean, network.bn2.running_var = z2.mean(0), z2.var(0)


def initial_statistics(network: BatchNormMLP, _images: np.ndarray) -> None:
    """Normalize by mean 0 and variance 1, as before any training."""
    network.bn1.reset_running_stats()
    network.bn2.reset_running_stats()


def wrong_eps(network: BatchNormMLP, _images: np.ndarray) -> None:
    """Use another framework's eps."""
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
    """Transpose the square part of the second layer's weight."""
    square = network.fc2.weight[:, :64]
    square.copy_(square.T.clone())


def layer_names(model: ModelProto) -> list[list[str]]:
    """Return the names of weight and bias of each of the model's Gemm nodes."""
    return [list(node.input[1:]) for node in model.graph.node if node.op_type == "Gemm"]


def get_layer(model: ModelProto, number: int) -> list[np.ndarray]:
    """Return weight (out, in) and bias (out,) of a layer, counted from 0."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    return [numpy_helper.to_array(tensors[name]) for name in layer_names(model)[number]]


def set_layer(model: ModelProto, number: int, weight: np.ndarray, bias: np.ndarray) -> None:
    """Replace weight (out, in) and bias (out,) of a layer, counted from 0."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, values in zip(layer_names(model)[number], (weight, bias), strict=True):
        assert list(values.shape) == list(tensors[name].dims)
        tensors[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def swap_layers(network: BatchNormMLP, _images: np.ndarray) -> ModelProto:
    """Return a model whose second batch normalization comes after its ReLU."""
    arrays = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    scale = arrays["bn2.weight"] / np.sqrt(arrays["bn2.running_var"] + network.bn2.eps)
    shift = arrays["bn2.bias"] - arrays["bn2.running_mean"] * scale
    weight, bias = arrays["fc3.weight"], arrays["fc3.bias"]
    model = onnx.load_from_string(exported(network))
    set_layer(model, 1, arrays["fc2.weight"], arrays["fc2.bias"])
    set_layer(model, 2, weight * scale, bias + weight @ shift)
    return model


def never_scale(network: BatchNormMLP, _images: np.ndarray) -> ModelProto:
    """Return a model that does not scale its pixels."""
    model = onnx.load_from_string(exported(network))
    weight, bias = get_layer(model, 0)
    set_layer(model, 0, weight / SCALE, bias - weight.sum(axis=1) / SCALE * SHIFT)
    return model


def scale_twice(network: BatchNormMLP, _images: np.ndarray) -> ModelProto:
    """Return a model that scales its pixels, and the result once more."""
    model = onnx.load_from_string(exported(network))
    weight, bias = get_layer(model, 0)
    set_layer(model, 0, weight * SCALE, bias + weight.sum(axis=1) * SHIFT)
    return model


def round_to_float16(network: BatchNormMLP, _images: np.ndarray) -> ModelProto:
    """Return a model whose weights were rounded to float16."""
    model = onnx.load_from_string(exported(network))
    for number in range(3):
        weight, bias = get_layer(model, number)
        set_layer(model, number, weight.astype(np.float16), bias.astype(np.float16))
    return model


def other_training(network: BatchNormMLP, images: np.ndarray) -> ModelProto:
    """Return the valid export of another training: one epoch from another seed."""
    other = initial_network("batchnorm_mlp", seed=1)
    assert isinstance(other, BatchNormMLP)
    labels = pytorch_logits(network, images).argmax(axis=1)
    params = TrainParams(epochs=1, batch_size=64, lr=0.01, seed=1, device="cpu")
    list(train(other, Dataset(images, labels, images, labels), params))
    return export(other.eval())


def flip_bit(network: BatchNormMLP, _images: np.ndarray) -> ModelProto:
    """Return a model with the last bit of one weight flipped."""
    model = onnx.load_from_string(exported(network))
    weight, bias = get_layer(model, 0)
    flipped = weight.copy()
    flipped.view(np.uint32)[0, 0] ^= 1
    set_layer(model, 0, flipped, bias)
    return model


MUTANTS: dict[str, Mutant] = {
    "statistics of a batch (train mode)": partial(export_changed, batch_statistics),
    "statistics never updated": partial(export_changed, initial_statistics),
    "wrong eps (1e-3)": partial(export_changed, wrong_eps),
    "gamma forgotten": partial(export_changed, forget_gamma),
    "beta forgotten": partial(export_changed, forget_beta),
    "batch normalization and ReLU swapped": swap_layers,
    "weight transposed": partial(export_changed, transpose_weight),
    "pixels not scaled": never_scale,
    "pixels scaled twice": scale_twice,
    "weights in float16": round_to_float16,
    "file of another training": other_training,
    "one bit flipped": flip_bit,
}
# Not made by export from these weights. It made the others, and would make the same tensors again.
NOT_EXPORTED = {"file of another training", "one bit flipped"}
