"""Registers an adapted network as a version in MLflow, and gives the winner its alias."""

import json
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline.adapt.traffic import Sample
from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.promote.cards import cards
from pipeline.promote.champion import replace
from pipeline.promote.gate import CHALLENGER, CHAMPION
from pipeline.tracking import registry
from pipeline.tracking.registry import ADAPTED_FROM, ADAPTED_IN


def register_adapted(
    client: MlflowClient,
    run_id: str,
    trained: ModelVersion,
    certificate: dict[str, Any],
    sample: Sample,
) -> ModelVersion:
    """Register an adapted network's file as a version of the training that it came from, with its
    certificate and cards.

    Raises:
        ValueError: the certificate did not pass.
    """
    if not certificate["passed"]:
        raise ValueError(
            "the adapted network does not answer as PyTorch does, so it is not registered: see "
            f"{files.ADAPTED_MODEL.parent}"
        )
    with files.locked("promote"):
        training = client.get_run(str(trained.run_id))
        digest = certificate["model.sha256"]
        version = registry.find_version(client, digest)
        if not version:
            run = training.info.run_id
            version = registry.register(client, run, files.ADAPTED_MODEL, digest)
        content = json.dumps(certificate, indent=2).encode()
        registry.add_file(client, version, files.CERTIFICATE.name, content)
        tags = {
            "model.sha256": digest,
            "sample.sha256": sample.sha256,
            "sample.rows": str(len(sample.images)),
            ADAPTED_IN: run_id,
            ADAPTED_FROM: str(trained.version),
        }
        text = f"Version {trained.version} with running statistics of {len(sample.images)} rows"
        registry.describe(client, version, tags, text)
        version = client.get_model_version(registry.registered_name(), str(version.version))
        for name, card in cards(content, training, version.tags).items():
            registry.add_file(client, version, name, card)
        return version


def give_alias(client: MlflowClient, champion: ModelVersion, version: ModelVersion) -> str:
    """Make a version the champion if `adapt.unattended`, or else the challenger; return what was
    done in a sentence.

    Raises:
        ValueError: the champion has changed since it was judged.
    """
    with files.locked("promote"):
        now = registry.find_alias(client, CHAMPION)
        if not now or now.version != champion.version:
            raise ValueError("the champion has changed meanwhile: run it again")
        number = str(version.version)
        if not load_params().adapt.unattended:
            registry.move_alias(client, CHALLENGER, number)
            return (
                f"version {number} is the challenger: `python -m pipeline.promote --champion "
                f"{number}` makes it the champion"
            )
        replace(client, champion, version)
    return f"version {number} is the champion, in place of version {champion.version}"
