"""Exports the batch-normalised network to ONNX for inference: `python -m pipeline.export`.

Reads artifacts/batchnorm_mlp/weights.safetensors, the accuracy in artifacts/metrics.json and what
shaped the weights in artifacts/provenance.json; writes model.onnx beside the weights: raw bytes in,
no batch normalisation left. The same weights of the same training give the same file, byte for
byte.
"""

import copy
import json
import sys
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from safetensors.torch import load_file
from torch import nn

from models import BatchNormMLP
from pipeline.artifacts import (
    METRICS,
    MODEL,
    PROVENANCE,
    require,
    sha256,
    weights_path,
    write_whole,
)
from pipeline.provenance import params_sha256, read_provenance

# The whole deployed network; the folded weights and biases are added as initializers.
GRAPH = """
<ir_version: 10, opset_import: ["" : 21], producer_name: "mnist-batchnorm">
batchnorm_mlp (uint8[batch, 28, 28] images)
    => (float[batch, 10] logits, float[batch, 10] probabilities)
{
    pixels = Cast <to = 1> (images)
    x = Flatten <axis = 1> (pixels)
    z1 = Gemm <transB = 1> (x, weight1, bias1)
    y1 = Relu (z1)
    z2 = Gemm <transB = 1> (y1, weight2, bias2)
    y2 = Relu (z2)
    logits = Gemm <transB = 1> (y2, weight3, bias3)
    probabilities = Softmax <axis = 1> (logits)
}
"""


def load_network() -> BatchNormMLP:
    """Return the trained network in eval mode."""
    network = BatchNormMLP()
    network.load_state_dict(load_file(require(weights_path("batchnorm_mlp"), "train")))
    return network.eval()


def fold_batch_norm(linear: nn.Linear, norm: nn.BatchNorm1d) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (out, in) and bias (out,) float64 of one linear layer that does both.

    With the running mean m and variance v, gamma (W x + b - m) / sqrt(v + eps) + beta is again
    linear in x.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", 2018, section 3.2, https://arxiv.org/abs/1712.05877

    Raises:
        ValueError: the layer is in train mode, where it does not use its running statistics.
    """
    if norm.training:
        raise ValueError("the network is in train mode: call network.eval() before exporting it")
    weight, bias = _float64(linear.weight), _float64(linear.bias)
    scale = _float64(norm.weight) / np.sqrt(_float64(norm.running_var) + norm.eps)
    shifted = scale * (bias - _float64(norm.running_mean)) + _float64(norm.bias)
    return scale[:, None] * weight, shifted


def fold_normalisation(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first layer for bytes p in 0 to 255 instead of x = (p / 255 - 0.5) / 0.5."""
    return weight * (2 / 255), bias - weight.sum(axis=1)


def fold(network: BatchNormMLP) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weight and bias, float64, of the three linear layers that are left."""
    return [
        fold_normalisation(*fold_batch_norm(network.fc1, network.bn1)),
        fold_batch_norm(network.fc2, network.bn2),
        (_float64(network.fc3.weight), _float64(network.fc3.bias)),
    ]


def to_onnx(
    network: BatchNormMLP, test_accuracy: float, lineage: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """Return the folded network as one self-contained model.

    It takes `images` (N, 28, 28) uint8, and gives `logits` and `probabilities` (N, 10) float32. Its
    metadata tell a server what to watch and how to test itself, and where the weights come from.

    Raises:
        ValueError: the network is in train mode.
    """
    model = onnx.parser.parse_model(GRAPH)
    for number, (weight, bias) in enumerate(fold(network), start=1):
        for name, values in ((f"weight{number}", weight), (f"bias{number}", bias)):
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    helper.set_model_props(model, metadata(network, test_accuracy) | dict(lineage or {}))
    onnx.checker.check_model(model, full_check=True)
    return model


def metadata(network: BatchNormMLP, test_accuracy: float) -> dict[str, str]:
    """Return what a server needs beside the graph, each as JSON.

    unit_mean, unit_std: over the training images, of each unit of the first layer after batch
    normalisation, (128,). self_test: grey levels of evenly grey images, and their logits.
    """
    greys = [0, 128, 255]
    images = torch.tensor(greys).double()[:, None, None].expand(-1, 28, 28)
    with torch.inference_mode():
        logits = copy.deepcopy(network).double()(images / 127.5 - 1)
    return {
        "unit_mean": json.dumps(network.bn1.bias.tolist()),
        "unit_std": json.dumps(network.bn1.weight.abs().tolist()),
        "test_accuracy": json.dumps(test_accuracy),
        "self_test": json.dumps({"images": greys, "logits": logits.tolist()}),
    }


def build() -> bytes:
    """Return the model file of the trained network, the same bytes at each call.

    Raises:
        FileNotFoundError: the training has not been done.
    """
    metrics = json.loads(require(METRICS, "train").read_text())
    provenance = read_provenance(PROVENANCE, "train")
    lineage = {
        "weights_sha256": sha256(require(weights_path("batchnorm_mlp"), "train")),
        "train_params_sha256": params_sha256(provenance["params"]),
        "data_md5": provenance["data_md5"],
    }
    model = to_onnx(load_network(), metrics["batchnorm_mlp"]["test_accuracy"], lineage)
    return model.SerializeToString(deterministic=True)


def _float64(tensor: torch.Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.detach().double().numpy()


def main() -> None:
    """Export the trained network."""
    try:
        content = build()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    write_whole(MODEL, content)
    print(f"wrote {MODEL} ({len(content):,} bytes)")


if __name__ == "__main__":
    main()
