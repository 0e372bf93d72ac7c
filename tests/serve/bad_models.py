"""Model files that must be refused, made from a good one."""

import json
from collections.abc import Callable

import onnx
from onnx import helper, numpy_helper


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


def with_nine_classes(model: onnx.ModelProto) -> None:
    """Keep only nine of the last layer's units."""
    last = [node for node in model.graph.node if node.op_type == "Gemm"][-1]
    for tensor in model.graph.initializer:
        if tensor.name in last.input:
            values = numpy_helper.to_array(tensor)
            axis = values.shape.index(10)
            tensor.CopyFrom(numpy_helper.from_array(values.take(range(9), axis), tensor.name))
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = 9
    del model.graph.value_info[:]
    with_metadata(self_test=json.dumps({"images": [0], "logits": [[0.0] * 9]}))(model)


def with_one_image(model: onnx.ModelProto) -> None:
    """Fix the batch size."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


BAD: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "no unit_mean": (with_metadata(unit_mean=None), "all or none of"),
    "garbled unit_mean": (with_metadata(unit_mean="[1, 2"), "not a usable ONNX model"),
    "unit_mean is no list": (with_metadata(unit_mean='{"a": 1}'), "not a usable ONNX model"),
    "unit_mean of another size": (
        with_metadata(unit_mean=json.dumps([0.0] * 5)),
        "one number per unit",
    ),
    "statistics of another size": (
        with_metadata(unit_mean=json.dumps([0.0] * 5), unit_std=json.dumps([1.0] * 5)),
        r"\(1, 5\), got float32 \(1, 128\)",
    ),
    "unit_std of zero": (with_metadata(unit_std=json.dumps([0.0] * 128)), "> 0"),
    "unit_mean of NaN": (with_metadata(unit_mean="[" + "NaN," * 127 + "NaN]"), "finite"),
    "a drift tensor that does not exist": (
        with_metadata(drift_tensor="nothing"),
        "not a usable ONNX model",
    ),
    "no self-test": (with_metadata(self_test=None), "no valid self-test"),
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
    "nine classes": (with_nine_classes, r"\(1, 10\), got float32 \(1, 9\)"),
    "a batch size of one": (with_one_image, "not a usable ONNX model"),
}
