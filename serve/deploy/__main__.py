"""Writes a Triton model repository and a KServe manifest: `python -m serve.deploy FOLDER`.

FOLDER becomes the repository, and FOLDER/inference_service.yaml the manifest for `kubectl apply`.
Both are derived from the model file.
"""

import argparse
import sys
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

from ruamel.yaml import YAML

from serve.model.descriptions import model_config
from serve.model.engine import Engine
from serve.model.source import PROJECT, fetch, read_source

TEMPLATES = Path(__file__).parent


def triton_config(engine: Engine) -> str:
    """Return the model's config.pbtxt.

    Source: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
    """
    config = model_config(engine)
    labels = {name: f' label_filename: "{name}.labels"' for name in engine.labels}
    tensors = [
        f'{kind} {{ name: "{tensor["name"]}" data_type: {tensor["data_type"]} '
        f"dims: {tensor['dims']}{labels.get(tensor['name'], '')} }}"
        for kind in ("input", "output")
        for tensor in config[kind]
    ]
    inputs = [
        f'  inputs {{ key: "{tensor["name"]}" value {{ data_type: {tensor["data_type"]} '
        f"dims: {[max(size, 1) for size in tensor['dims']]} zero_data: true }} }}"
        for tensor in config["input"]
    ]
    return Template((TEMPLATES / "config.pbtxt").read_text()).substitute(
        name=engine.name,
        max_batch_size=config["max_batch_size"],
        tensors="\n".join(tensors),
        batching="dynamic_batching { }\n" if engine.batches else "",
        inputs="\n".join(inputs),
    )


def inference_service(engine: Engine, storage_uri: str) -> str:
    """Return the manifest of a KServe InferenceService that serves the repository with Triton.

    Source: https://kserve.github.io/website/docs/reference/crd-api
    """
    return Template((TEMPLATES / "inference_service.yaml").read_text()).substitute(
        service=engine.name.replace("_", "-").lower(),
        version=engine.version,
        storage_uri=f"{storage_uri.rstrip('/')}/{engine.version}",
    )


def deployed() -> Path:
    """Return the path of the network that params.yaml names in `export.network`."""
    params = YAML(typ="safe").load(PROJECT / "params.yaml")
    return PROJECT / "artifacts" / "export" / f"{params['export']['network']}.onnx"


def main() -> None:
    """Write the repository and the manifest."""
    parser = argparse.ArgumentParser(prog="python -m serve.deploy", description=__doc__)
    parser.add_argument("folder", type=Path, help="the repository to write, created if missing")
    parser.add_argument(
        "--model",
        help="an ONNX file, or models:/NAME@ALIAS in MLflow (default: the network that params.yaml "
        "names in export.network)",
    )  # fmt: skip
    parser.add_argument(
        "--storage-uri", default="s3://models/mnist-batchnorm",
        help="where each version gets a folder that KServe reads (default: %(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args()
    try:
        source = read_source(arguments.model or str(deployed()))
        with TemporaryDirectory() as folder:
            content = fetch(source.where, folder)
        engine = Engine(source.where, content, source.name)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    numbered = arguments.folder / engine.name / "1"
    numbered.mkdir(parents=True, exist_ok=True)
    (numbered / "model.onnx").write_bytes(content)
    (numbered.parent / "config.pbtxt").write_text(triton_config(engine))
    for name, labels in engine.labels.items():
        (numbered.parent / f"{name}.labels").write_text("\n".join(labels) + "\n")
    manifest = arguments.folder / "inference_service.yaml"
    manifest.write_text(inference_service(engine, arguments.storage_uri))
    print(
        f"wrote {numbered.parent} for Triton and {manifest} for KServe; copy {arguments.folder} to "
        f"{arguments.storage_uri.rstrip('/')}/{engine.version}"
    )


if __name__ == "__main__":
    main()
