"""Writes a Triton model repository and a KServe manifest: `python -m serve.deploy FOLDER`.

FOLDER becomes the repository, and FOLDER/inference_service.yaml the manifest for `kubectl apply`.
Both are derived from the model file.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from string import Template

import onnx

from serve.model import EXPORTED, resolve
from serve.protocol import MAX_IMAGES

TEMPLATES = Path(__file__).parent
TYPES: dict[int, str] = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}


def tensor(kind: str, info: onnx.ValueInfoProto) -> str:
    """Return an input or output in Triton's configuration format, without the batch axis."""
    kind_of_number = TYPES[info.type.tensor_type.elem_type]
    sizes = [axis.dim_value for axis in info.type.tensor_type.shape.dim[1:]]
    return f'{kind} {{ name: "{info.name}" data_type: {kind_of_number} dims: {sizes} }}'


def triton_config(model: onnx.ModelProto) -> str:
    """Return the model's config.pbtxt.

    Source: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
    """
    tensors = [tensor("input", info) for info in model.graph.input]
    tensors += [tensor("output", info) for info in model.graph.output]
    return Template((TEMPLATES / "config.pbtxt").read_text()).substitute(
        name=model.graph.name, max_batch_size=MAX_IMAGES, tensors="\n".join(tensors)
    )


def inference_service(model: onnx.ModelProto, version: str, storage_uri: str) -> str:
    """Return the manifest of a KServe InferenceService that serves the repository with Triton.

    Source: https://kserve.github.io/website/docs/reference/crd-api
    """
    return Template((TEMPLATES / "inference_service.yaml").read_text()).substitute(
        service=model.graph.name.replace("_", "-"), version=version, storage_uri=storage_uri
    )


def main() -> None:
    """Write the repository and the manifest."""
    parser = argparse.ArgumentParser(prog="python -m serve.deploy", description=__doc__)
    parser.add_argument("folder", type=Path, help="the repository to write, created if missing")
    parser.add_argument(
        "--model", default=EXPORTED,
        help="an ONNX file, or models:/NAME@ALIAS in MLflow (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--storage-uri", default="s3://models/mnist-batchnorm",
        help="where KServe finds the repository (default: %(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args()
    try:
        with resolve(arguments.model) as path:
            content = path.read_bytes()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    model = onnx.load_from_string(content)
    version = hashlib.sha256(content).hexdigest()[:12]
    numbered = arguments.folder / model.graph.name / "1"
    numbered.mkdir(parents=True, exist_ok=True)
    (numbered / "model.onnx").write_bytes(content)
    (numbered.parent / "config.pbtxt").write_text(triton_config(model))
    manifest = arguments.folder / "inference_service.yaml"
    manifest.write_text(inference_service(model, version, arguments.storage_uri))
    print(f"wrote {numbered.parent} for Triton and {manifest} for KServe")


if __name__ == "__main__":
    main()
