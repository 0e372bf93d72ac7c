"""Builds the adapted network's ONNX file from trained weights and a sample, and certifies it.

The file depends on nothing else, so `trace` can build it again.
"""

from typing import Any

import numpy as np
import torch
from mlflow.entities.model_registry import ModelVersion
from torch import nn

from pipeline.adapt.re_estimate import re_estimate_for_mix
from pipeline.adapt.traffic import Sample
from pipeline.certify.backends import Exported
from pipeline.certify.certificate import certify
from pipeline.certify.server import running_server
from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.data.load import load_dataset
from pipeline.data.tensors import scale_pixels
from pipeline.export.build import self_description
from pipeline.export.fold import fold
from pipeline.export.graph import to_onnx

LINEAGE = ("weights.sha256", "params.sha256", "data.md5")  # of the training, in tags and metadata


def adapt_network(network: nn.Module, sample: Sample) -> nn.Module:
    """Return the network with the statistics of one half of the sample.

    Raises:
        ValueError: it has no running statistics.
    """
    labels = load_dataset().train_labels
    prior = torch.from_numpy(np.bincount(labels) / len(labels))
    rows, _ = sample.halves()
    return re_estimate_for_mix(network, scale_pixels(sample.images[rows]), prior)


def build_adapted(network: nn.Module, trained: ModelVersion, sample: Sample) -> bytes:
    """Return the ONNX file of an adapted network.

    Its metadata have the lineage of the trained version, the sample's digest, and the sample in
    place of held-out test images, from which a server measures drift.
    """
    key = load_params().export.network
    metadata = {name: trained.tags[name] for name in LINEAGE}
    metadata |= {"sample.sha256": sample.sha256, **self_description(key, network, sample.images)}
    return to_onnx(network, key, metadata).SerializeToString(deterministic=True)


def certify_adapted(network: nn.Module, trained: ModelVersion, sample: Sample) -> dict[str, Any]:
    """Return the certificate of the adapted network's file, on test images and on the sample;
    artifacts/adapt/ has it too."""
    model = files.ADAPTED_MODEL
    data, params = load_dataset(), load_params().certify
    with running_server(f"{model.stem}={model}") as server:
        exported = Exported(network, fold(network), model, server)
        certificate = certify(exported, data, params, {"sample": sample.images})
    certificate["model.sha256"] = files.sha256(model)
    certificate["weights.sha256"] = trained.tags["weights.sha256"]
    files.write_json(model.with_name(files.CERTIFICATE.name), certificate)
    return certificate
