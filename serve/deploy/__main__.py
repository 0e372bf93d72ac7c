"""Writes what Triton and KServe need to serve the model: `python -m serve.deploy FOLDER`.

FOLDER becomes a Triton model repository, and inference_service.yaml beside it a manifest for
`kubectl apply`, both from the model file itself.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from string import Template

import onnx

from serve.protocol import MAX_IMAGES

TEMPLATES = Path(__file__).parent
ROOT = Path(__file__).resolve().parents[2]
TYPES: dict[int, str] = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}


def tensor(kind: str, info: onnx.ValueInfoProto) -> str:
    """Return an input or output as Triton's configuration has it: without the batch's axis."""
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
    """Return the manifest of a KServe InferenceService that serves the repository by Triton.

    Source: https://kserve.github.io/website/docs/reference/crd-api
    """
    return Template((TEMPLATES / "inference_service.yaml").read_text()).substitute(
        service=model.graph.name.replace("_", "-"), version=version, storage_uri=storage_uri
    )


def main() -> None:
    """Write the repository and the manifest."""
    parser = argparse.ArgumentParser(prog="python -m serve.deploy", description=__doc__)
    default = ROOT / "artifacts" / "batchnorm_mlp" / "model.onnx"
    parser.add_argument("folder", type=Path, help="the repository to write, made if need be")
    parser.add_argument("--model", type=Path, default=default, help="the ONNX file")
    parser.add_argument(
        "--storage-uri", default="s3://models/mnist-batchnorm",
        help="where KServe finds the repository (default: %(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args()
    if not arguments.model.is_file():
        sys.exit(f"error: {arguments.model} not found: run `dvc repro export`")
    content = arguments.model.read_bytes()
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
