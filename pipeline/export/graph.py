"""Exports a network's own forward as one self-contained ONNX model."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from pipeline.data.dataset import CLASS_NAMES, IMAGE_SHAPE, SCALE, SHIFT
from pipeline.data.tensors import BATCH, logits_of
from pipeline.export.fold import fold
from serve.model.drift import KEY, scores

# What the ONNX Runtime 1.14 of KServe's Triton runtime, tritonserver 23.05, reads.
IR_VERSION, OPSET = 8, 18
QUANTILES = 101


class Exported(nn.Module):
    """A folded network behind the interface that is served."""

    def __init__(self, folded: nn.Module) -> None:
        super().__init__()
        self.network = folded.float()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, (B, CLASSES) float32, for images (B, *IMAGE_SHAPE)."""
        logits = self.network(images.to(torch.float32))
        return logits, logits.softmax(dim=1)


def to_onnx(network: nn.Module, name: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Return the folded network as an ONNX model, the same bytes for the same weights.

    It takes `images` (B, *IMAGE_SHAPE) uint8, and returns `logits` and `probabilities`
    (B, CLASSES) float32.

    Raises:
        ValueError: the network is in train mode, or PyTorch cannot export it.
    """
    images = torch.zeros((2, *IMAGE_SHAPE), dtype=torch.uint8)  # 1 would fix the size of a batch
    try:
        program = torch.onnx.export(
            Exported(fold(network)).eval(),
            (images,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            external_data=False,
            input_names=["images"],
            output_names=["logits", "probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f"{name} cannot be exported: {error}") from error
    assert program is not None
    model = strip_metadata(program.model_proto)
    model.ir_version, model.graph.name = IR_VERSION, name
    helper.set_model_props(model, labels() | dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def is_export(network: nn.Module, model: onnx.ModelProto, metadata: Mapping[str, str]) -> bool:
    """Return whether a model has the tensors, bit for bit, and the metadata of `to_onnx`.

    It is not exported again, which takes seconds, so its nodes are not compared. False also if the
    exporter has renamed or added a tensor.
    """
    tensors = Exported(fold(network)).state_dict()
    folded = {name: tensor.numpy() for name, tensor in tensors.items()}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    expected, found = (
        {name: array.tobytes() for name, array in arrays.items() if array.dtype.kind == "f"}
        for arrays in (folded, stored)
    )
    properties = {entry.key: entry.value for entry in model.metadata_props}
    return found == expected and properties == labels() | dict(metadata)


def strip_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the exporter's notes, stack traces with paths among them, in place."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
    return model


def labels() -> dict[str, str]:
    """Return the metadata with the names of the classes, by output."""
    return {"labels": json.dumps(dict.fromkeys(("logits", "probabilities"), CLASS_NAMES))}


def float64_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return PyTorch's logits (N, classes) in eval mode, float64: the reference for rounding.

    images: (N, *IMAGE_SHAPE) uint8.
    """
    network = copy.deepcopy(network).double().eval()
    batches = np.split(images, range(BATCH, len(images), BATCH))
    found = [logits_of(network, torch.tensor(x).double() * SCALE + SHIFT) for x in batches]
    return torch.cat(found).numpy()


def self_test(network: nn.Module) -> dict[str, str]:
    """Return the metadata with which a server tests itself: grey levels of evenly grey images, and
    their logits from PyTorch in float64."""
    greys = [0, 128, 255]
    images = np.stack([np.full(IMAGE_SHAPE, grey, np.uint8) for grey in greys])
    logits = float64_logits(network, images)
    return {"self_test": json.dumps({"images": greys, "logits": logits.tolist()})}


def held_out_reference(network: nn.Module, images: np.ndarray) -> dict[str, str]:
    """Return the metadata by which a server notices drift: what held-out images
    (N, *IMAGE_SHAPE) uint8 look like to the network."""
    return {KEY: json.dumps({"output": "logits"} | summary(float64_logits(network, images)))}


def summary(outputs: np.ndarray) -> dict[str, list[Any]]:
    """Return the arrays of `serve.model.drift.Reference` for outputs (N, classes) float64.

    A class that is predicted for no row has the scores of all. To the covariance of a class, as
    many rows are added as there are classes, spread like all rows: so it has an inverse, and suits
    other rows as well, even if the class has few.
    """
    classes = outputs.shape[1]
    predictions, levels = outputs.argmax(axis=1), np.linspace(0, 1, QUANTILES)
    counts = np.bincount(predictions, minlength=classes)
    groups = [outputs[predictions == k] if counts[k] else outputs for k in range(classes)]
    means = rounded(np.array([group.mean(axis=0) for group in groups]))
    spread = np.cov(outputs.T, bias=True) + 1e-6 * np.eye(classes)  # outputs may add up to 1
    whitenings = np.empty((classes, classes, classes))
    quantiles = np.empty((2, classes, QUANTILES))
    for k, group in enumerate(groups):
        deviations = group - means[k]
        covariance = (deviations.T @ deviations + classes * spread) / (len(group) + classes)
        whitenings[k] = rounded(np.triu(np.linalg.inv(np.linalg.cholesky(covariance)).T))
        found = scores(group, np.full(len(group), k), means, whitenings)
        quantiles[:, k] = np.quantile(found, levels, axis=1).T
    return {
        "shares": (counts / len(outputs)).round(4).tolist(),
        "means": means.tolist(),
        "whitenings": whitenings.tolist(),
        "quantiles": rounded(quantiles).tolist(),
    }


def rounded(values: np.ndarray) -> np.ndarray:
    """Return values with four decimals, and 0 without a sign, which differs from run to run."""
    return values.round(4) + 0.0
