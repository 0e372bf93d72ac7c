"""What tests ask of the versions in a store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline.core.params import PromoteParams, load_params
from pipeline.promote import promotion
from pipeline.tracking.registry import logged_model_id

Promote = Callable[[str], dict[str, Any]]


def set_min_accuracy(patch: pytest.MonkeyPatch, least: float) -> None:
    promote = PromoteParams(min_test_accuracy=least, margin=0.05)
    params = load_params().model_copy(update={"promote": promote})
    patch.setattr(promotion, "load_params", lambda: params)


def champion(client: MlflowClient) -> ModelVersion:
    return client.get_model_version_by_alias("mnist-batchnorm", "champion")


def number(client: MlflowClient) -> int:
    return int(champion(client).version)


def registered_file(client: MlflowClient, version: ModelVersion, name: str) -> Path:
    folder = client.get_logged_model(logged_model_id(version)).artifact_location
    return Path(folder.removeprefix("file://")) / name
