"""Builds a network's ONNX file from what `train` wrote."""

import json

import numpy as np
import onnx
from torch import nn

from models import NETWORKS
from pipeline.core import files
from pipeline.core.provenance import Provenance
from pipeline.core.weights import restored
from pipeline.data.load import load_dataset
from pipeline.export.graph import held_out_reference, is_export, self_test, to_onnx

# Drift is measured from every other test image, and the alarm is tested on the rest. The first and
# the last half would not do: MNIST's last 5,000 test images are easier.
HELD_OUT, UNSEEN = slice(0, None, 2), slice(1, None, 2)


def load_network(key: str) -> nn.Module:
    """Return a trained network in eval mode.

    Raises:
        FileNotFoundError: `train` has not run.
    """
    return restored(key, files.require(files.weights_path(key), "train").read_bytes())


def build(key: str) -> bytes:
    """Return the ONNX file of a trained network, the same bytes at each call.

    Its metadata have the network's lineage, its test accuracy, its title and color in figures, and
    what a server needs to test and watch itself.

    Raises:
        FileNotFoundError: `train` has not run.
        ValueError: the network cannot be exported.
    """
    network = load_network(key)
    return to_onnx(network, key, metadata(key, network)).SerializeToString(deterministic=True)


def is_built(key: str, content: bytes) -> bool:
    """Return whether an ONNX file is what `build` makes: by its tensors and metadata or, if those
    differ, by building it again."""
    network, model = load_network(key), onnx.load_from_string(content)
    return is_export(network, model, metadata(key, network)) or build(key) == content


def metadata(key: str, network: nn.Module) -> dict[str, str]:
    """Return the metadata of a trained network's file; see `build`."""
    accuracy = files.read_json(files.ACCURACY, "train")
    return {
        "weights.sha256": files.sha256(files.weights_path(key)),
        **Provenance.read("train").content_tags(),
        "test_accuracy": json.dumps(accuracy[key]),
        **self_description(key, network, load_dataset().test_images[HELD_OUT]),
    }


def self_description(key: str, network: nn.Module, held_out: np.ndarray) -> dict[str, str]:
    """Return the metadata with a network's title and color in figures, and what a server needs to
    test and watch itself.

    held_out: images (N, *IMAGE_SHAPE) uint8 from which drift is measured.
    """
    return {
        "title": NETWORKS[key].title,
        "color": NETWORKS[key].color,
        **held_out_reference(network, held_out),
        **self_test(network),  # the last, which fails if what is before it is of another file
    }


def write_models() -> None:
    """Write the ONNX file of each network."""
    for key in NETWORKS:
        content = build(key)
        files.write_atomically(files.model_path(key), content)
        print(f"wrote {files.model_path(key)} ({len(content):,} bytes)")
