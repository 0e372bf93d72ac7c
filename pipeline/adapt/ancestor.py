"""Finds the trained version that a model descends from, and the weights of its training."""

from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from safetensors.torch import load
from torch import nn

from models import NETWORKS
from pipeline.core import files
from pipeline.tracking.registry import ADAPTED_FROM, all_versions, digest_tag
from pipeline.tracking.store import download


class Ancestor(NamedTuple):
    """A trained version, and networks of its training in eval mode: its own and the judge."""

    version: ModelVersion
    network: nn.Module
    judge: nn.Module


def find_ancestor(client: MlflowClient, version: ModelVersion, key: str, judge: str) -> Ancestor:
    """Return what a version was adapted from, or the version itself if it was trained.

    key, judge: of the networks.

    Raises:
        FileNotFoundError: the trained version or weights of its training are lost.
        ValueError: the network would judge itself.
    """
    if key == judge:
        raise ValueError(f"adapt.judge must be another network than export.network, got {judge}")
    number = version.tags.get(ADAPTED_FROM, str(version.version))
    trained = all_versions(client).get(number)
    if not trained:
        raise FileNotFoundError(
            f"version {version.version} was adapted from version {number}, which MLflow has no "
            "longer: train again, and `dvc repro`"
        )
    return Ancestor(trained, trained_network(trained, key), trained_network(trained, judge))


def trained_network(version: ModelVersion, key: str) -> nn.Module:
    """Return a network of the training of a trained version, in eval mode.

    Its weights are found by their SHA-256: in artifacts/, or else beside the version in MLflow.

    Raises:
        FileNotFoundError: they are at neither place.
        ValueError: they are of another architecture.
    """
    path = files.weights_path(key)
    expected = version.tags.get(digest_tag(path.name))
    content = path.read_bytes() if path.is_file() else None
    if content is None or files.sha256(content) != expected:
        content = download(version.source, path.name)
    if content is None or files.sha256(content) != expected:
        raise FileNotFoundError(
            f"the weights of {key} in the training of version {version.version} are neither "
            f"{path} nor beside the version in MLflow: `dvc repro promote` adds those in artifacts/"
        )
    network = NETWORKS[key].build()
    try:
        network.load_state_dict(load(content))
    except RuntimeError as error:
        raise ValueError(
            f"the weights of {key} in the training of version {version.version} do not fit the "
            f"class in models/: go back to its commit or train again: {error!s:.200}"
        ) from error
    return network.eval()
