"""Model files that must be refused, made from a good one."""

import json
import math
from collections.abc import Callable

import onnx
from onnx import TensorProto, helper


def with_metadata(**changes: str | None) -> Callable[[onnx.ModelProto], None]:
    """Return a change of a model's metadata, in which None removes an entry."""

    def change(model: onnx.ModelProto) -> None:
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        for key, value in changes.items():
            metadata.pop(key, None)
            if value is not None:
                metadata[key] = value
        helper.set_model_props(model, metadata)

    return change


def with_reference(**changes: object) -> Callable[[onnx.ModelProto], None]:
    """Return a change of what drift is measured from."""
    good = {
        "output": "logits",
        "shares": [0.1] * 10,
        "means": [[0.0] * 10] * 10,
        "whitenings": [[[0.0] * 10] * 10] * 10,
        "quantiles": [[[0, 1]] * 10] * 2,
    }
    return with_metadata(reference=json.dumps(good | changes))


def with_one_image(model: onnx.ModelProto) -> None:
    """Fix the batch size."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def with_first_row(model: onnx.ModelProto) -> None:
    """Return the probabilities of the first image alone."""
    model.graph.node[-1].output[0] = "all"
    first = helper.make_node("Compress", ["all", "first"], ["probabilities"], axis=0)
    model.graph.node.append(first)
    model.graph.initializer.append(helper.make_tensor("first", TensorProto.BOOL, [1], [True]))


BAD: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "a garbled reference": (with_metadata(reference="[1, 2"), "not a usable ONNX model"),
    "a reference that is no table": (with_metadata(reference="[1, 2]"), "not a usable ONNX model"),
    "a reference of no output": (with_reference(output="nothing"), "name an output .* 'nothing'"),
    "shares of nine classes": (with_reference(shares=[0.1] * 9), r"shares of shape \(10,\)"),
    "means of one class": (with_reference(means=[[0.0] * 10]), r"means of shape \(10, 10\)"),
    "means of NaN": (with_reference(means=[[math.nan] * 10] * 10), "means .* all finite"),
    "one whitening": (
        with_reference(whitenings=[[0.0] * 10] * 10),
        r"whitenings of shape \(10, 10, 10\)",
    ),
    "quantiles of the margins alone": (
        with_reference(quantiles=[[[0, 1]] * 10]),
        r"quantiles of shape \(2, 10, 2\)",
    ),
    "one quantile": (with_reference(quantiles=[[[0]] * 10] * 2), r"of shape \(2, 10, 2\)"),
    "descending quantiles": (with_reference(quantiles=[[[1, 0]] * 10] * 2), "ascending quantiles"),
    "endless quantiles": (with_reference(quantiles=[[[0, math.inf]] * 10] * 2), "all finite"),
    "a self-test of pixels over 255": (
        with_metadata(self_test=json.dumps({"images": [300], "logits": [[0.0] * 10]})),
        "no valid self-test",
    ),
    "a self-test of no images": (
        with_metadata(self_test=json.dumps({"images": [], "logits": []})),
        "no valid self-test",
    ),
    "a self-test of one logit": (
        with_metadata(self_test=json.dumps({"images": [0], "logits": [0.0]})),
        "no valid self-test",
    ),
    "labels of nine classes": (
        with_metadata(labels=json.dumps({"logits": list("012345678")})),
        "9 names for 'logits'",
    ),
    "labels of no output": (
        with_metadata(labels=json.dumps({"logit": list("0123456789")})),
        "10 names for 'logit'",
    ),
    "a self-test of three images for a model of one": (with_one_image, "no valid self-test"),
    "one row for any batch": (with_first_row, r"probabilities of 2 rows has the shape \(1, 10\)"),
}
