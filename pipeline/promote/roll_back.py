"""Gives the alias `champion` back to the previous champion."""

from mlflow.entities.model_registry import ModelVersion

from pipeline.core import files
from pipeline.promote.gate import CHAMPION
from pipeline.tracking import registry
from pipeline.tracking.store import open_store


def blocked(versions: dict[str, ModelVersion]) -> set[str]:
    """Return the SHA-256 of the models that were rolled back, under any version number."""
    return {
        version.tags["model.sha256"]
        for version in versions.values()
        if "rolled.back" in version.tags and "model.sha256" in version.tags
    }


def previous_champion(versions: dict[str, ModelVersion], champion: ModelVersion) -> ModelVersion:
    """Return the most recent earlier champion that still exists and is not blocked.

    Raises:
        ValueError: there is none.
    """
    bad = blocked(versions) | {champion.tags.get("model.sha256")}
    seen, number = {str(champion.version)}, champion.tags.get("replaced")
    while number in versions and number not in seen:
        seen.add(number)
        if versions[number].tags.get("model.sha256") not in bad:
            return versions[number]
        number = versions[number].tags.get("replaced")
    raise ValueError("there is no champion before this one to go back to")


def roll_back() -> None:
    """Make the previous champion the champion again, and print a confirmation.

    Raises:
        ValueError: there is no champion, or none before it.
        ConnectionError: MLflow failed.
    """
    with files.locked("promote"), open_store() as client:
        champion = registry.find_alias(client, CHAMPION)
        if not champion:
            raise ValueError("there is no champion to roll back")
        previous = previous_champion(registry.all_versions(client), champion)
        registry.move_alias(client, CHAMPION, previous)
        registry.tag_version(client, champion, "rolled.back", "true")
    print(
        f"version {previous.version} is the champion again; the model of version "
        f"{champion.version} stays blocked until its tag rolled.back is removed in MLflow"
    )
