"""Tests of where the weights of a training are found."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save

from models import BatchNormMLP
from pipeline.adapt import ancestor
from pipeline.adapt.ancestor import find_ancestor, trained_network
from pipeline.core import files
from tests.support import write_below

KEY = "batchnorm_mlp"


@pytest.fixture
def weights(network: BatchNormMLP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    write_below(tmp_path, monkeypatch)
    monkeypatch.setattr(files, "dvc_cache", lambda: tmp_path / "cache")
    return save(network.state_dict())


def version_with(content: bytes, number: str = "1", **tags: str) -> Any:
    tags |= {f"{KEY}.sha256": files.sha256(content)}
    return SimpleNamespace(version=number, source="models:/m-1", tags=tags)


def keep_beside_versions(content: bytes | None, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ancestor, "download", lambda _source, _name: content)


def test_weights_in_artifacts_are_taken_if_they_are_the_versions(
    weights: bytes, network: BatchNormMLP, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_beside_versions(None, monkeypatch)
    files.write_atomically(files.weights_path(KEY), weights)
    found = trained_network(version_with(weights), KEY)
    assert not found.training
    torch.testing.assert_close(found.state_dict(), network.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("here", [None, b"of another training"])
def test_otherwise_those_beside_the_version_are(
    weights: bytes, here: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_beside_versions(weights, monkeypatch)
    if here:
        files.write_atomically(files.weights_path(KEY), here)
    trained_network(version_with(weights), KEY)


def test_weights_that_only_dvc_remembers_are_found(
    weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_beside_versions(None, monkeypatch)
    for name, content in (("0a/1", b"others"), ("0a/2", weights)):
        files.write_atomically(tmp_path / "cache/files/md5" / name, content)
    trained_network(version_with(weights), KEY)


@pytest.mark.parametrize("beside", [None, b"damaged"])
def test_weights_that_are_nowhere_are_named(
    weights: bytes, beside: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_beside_versions(beside, monkeypatch)
    with pytest.raises(
        FileNotFoundError, match="of batchnorm_mlp in the training of version 1 are"
    ):
        trained_network(version_with(weights), KEY)


def test_a_trained_version_that_is_gone_is_named(
    weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ancestor, "all_versions", lambda _client: {})
    adapted = version_with(weights, "2", **{"adapted.from": "1"})
    with pytest.raises(FileNotFoundError, match="version 2 was adapted from version 1, which MLf"):
        find_ancestor(None, adapted, KEY, "simple_mlp")  # type: ignore[arg-type]
