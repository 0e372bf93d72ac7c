"""Makes a version the champion that `adapt` has found better."""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline.core import files
from pipeline.promote.gate import CHALLENGER, CHAMPION
from pipeline.promote.roll_back import blocked
from pipeline.tracking import registry
from pipeline.tracking.registry import ADAPTED_FROM
from pipeline.tracking.store import open_store


def replace(client: MlflowClient, champion: ModelVersion, version: ModelVersion) -> None:
    """Move the alias from the champion to another version, and take `challenger` from that.

    A version that was the champion before keeps its tag `replaced`, so that a roll-back still leads
    to what was there before it.

    Raises:
        ValueError: the version's model was rolled back.
    """
    if version.tags.get("model.sha256") in blocked(registry.all_versions(client)):
        raise ValueError(
            f"the model of version {version.version} was rolled back: remove its tag rolled.back "
            "in MLflow first"
        )
    if "replaced" not in version.tags:
        registry.tag_version(client, version, "replaced", str(champion.version))
    registry.move_alias(client, CHAMPION, str(version.version))
    challenger = registry.find_alias(client, CHALLENGER)
    if challenger and challenger.version == version.version:
        client.delete_registered_model_alias(registry.registered_name(), CHALLENGER)


def make_champion(number: int) -> None:
    """Make a version of the champion's own training, adapted or as it was trained, the champion.

    Raises:
        ValueError: it is of another training, or was rolled back.
        ConnectionError: MLflow failed.
    """
    with files.locked("promote"), open_store() as client:
        champion, versions = registry.find_alias(client, CHAMPION), registry.all_versions(client)
        version = versions.get(str(number))
        if not champion or not version:
            raise ValueError(f"there is no champion, or no version {number}: see `make ui`")
        if str(number) == str(champion.version):
            print(f"version {number} is the champion already")
            return
        trained = champion.tags.get(ADAPTED_FROM, str(champion.version))
        if version.tags.get(ADAPTED_FROM, str(number)) != trained:
            raise ValueError(
                f"version {number} does not come from version {trained}, as the champion does, so "
                "they were not compared: `dvc repro promote` compares trainings"
            )
        replace(client, champion, version)
    print(f"version {number} is the champion, in place of version {champion.version}")
