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


def champions_before(versions: dict[str, ModelVersion], version: ModelVersion) -> list[str]:
    """Return the numbers of the earlier champions that still exist, the most recent first."""
    before: list[str] = []
    number = version.tags.get("replaced")
    while number in versions and number not in (str(version.version), *before):
        before.append(number)
        number = versions[number].tags.get("replaced")
    return before


def roll_back() -> None:
    """Make the previous champion the champion again, and print a confirmation. Idempotent, so that
    it can be repeated if it was interrupted or MLflow's answer was lost.

    Raises:
        ValueError: there is no champion, or none before it.
        ConnectionError: MLflow failed.
    """
    with files.locked("promote"), open_store() as client:
        champion = registry.find_alias(client, CHAMPION)
        if not champion:
            raise ValueError("there is no champion to roll back")
        versions, number = registry.all_versions(client), str(champion.version)
        bad = [version for version in versions.values() if "rolled.back" in version.tags]
        done = any(number in champions_before(versions, version) for version in bad)
        if done and "rolled.back" not in champion.tags:
            print(
                f"version {number} is the champion, and a later one is rolled back already; to "
                f"roll version {number} back too, set its tag rolled.back in MLflow and run again"
            )
            return
        digests = blocked(versions) | {champion.tags.get("model.sha256")}
        before = champions_before(versions, champion)
        good = [one for one in before if versions[one].tags.get("model.sha256") not in digests]
        if not good:
            raise ValueError("there is no champion before this one to go back to")
        # Tagged first: a model that is not blocked could be promoted again before the alias moves.
        registry.tag_version(client, champion, "rolled.back", "true")
        registry.move_alias(client, CHAMPION, good[0])
    print(
        f"version {good[0]} is the champion again; the model of version {number} stays "
        "blocked until its tag rolled.back is removed in MLflow"
    )
