"""Finds the trained version that a model descends from, and the weights of its training."""

from collections.abc import Iterator
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from torch import nn

from pipeline.core import files
from pipeline.core.weights import restored
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
    """
    number = version.tags.get(ADAPTED_FROM, str(version.version))
    trained = all_versions(client).get(number)
    if not trained:
        raise FileNotFoundError(
            f"version {version.version} was adapted from version {number}, which MLflow has no "
            "longer: train again, and `dvc repro`"
        )
    return Ancestor(trained, trained_network(trained, key), trained_network(trained, judge))


def places(version: ModelVersion, key: str) -> Iterator[bytes]:
    """Yield what may be a network's weights: in artifacts/, beside the version in MLflow, and each
    file in DVC's cache."""
    path = files.weights_path(key)
    if path.is_file():
        yield path.read_bytes()
    if (content := download(version.source, path.name)) is not None:
        yield content
    yield from (entry.read_bytes() for entry in files.dvc_cache().glob("files/md5/??/*"))


def trained_network(version: ModelVersion, key: str) -> nn.Module:
    """Return a network of the training of a trained version, in eval mode.

    Its weights are found by their SHA-256.

    Raises:
        FileNotFoundError: they are nowhere.
        ValueError: they are of another architecture.
    """
    expected = version.tags.get(digest_tag(files.weights_path(key).name))
    found = (content for content in places(version, key) if files.sha256(content) == expected)
    content = next(found, None)
    if content is None:
        raise FileNotFoundError(
            f"the weights of {key} in the training of version {version.version} are neither in "
            "artifacts/ nor beside the version in MLflow nor in DVC's cache: `dvc repro promote` "
            "adds those in artifacts/ to MLflow"
        )
    try:
        return restored(key, content)
    except RuntimeError as error:
        raise ValueError(
            f"the weights of {key} in the training of version {version.version} do not fit the "
            f"class in models/: go back to its commit or train again: {error!s:.200}"
        ) from error
