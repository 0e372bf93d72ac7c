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


def with_margins(**changes: object) -> Callable[[onnx.ModelProto], None]:
    """Return a change of what drift is measured from."""
    good = {"output": "logits", "shares": [0.1] * 10, "quantiles": [[0, 1]] * 10}
    return with_metadata(margins=json.dumps(good | changes))


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
    "garbled margins": (with_metadata(margins="[1, 2"), "not a usable ONNX model"),
    "margins that are no table": (with_metadata(margins="[1, 2]"), "not a usable ONNX model"),
    "margins of no output": (with_margins(output="nothing"), "for each class of an output"),
    "shares of nine classes": (with_margins(shares=[0.1] * 9), "for each class of an output"),
    "margins of nine classes": (
        with_margins(quantiles=[[0, 1]] * 9),
        "quantiles for each class",
    ),
    "one quantile of margins": (with_margins(quantiles=[[0]] * 10), "two finite quantiles"),
    "descending margins": (with_margins(quantiles=[[1, 0]] * 10), "from 0 on, ascending"),
    "margins of NaN": (with_margins(quantiles=[[0, math.nan]] * 10), "two finite quantiles"),
    "endless margins": (with_margins(quantiles=[[0, math.inf]] * 10), "two finite quantiles"),
    "negative margins": (with_margins(quantiles=[[-1, 0]] * 10), "from 0 on, ascending"),
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
