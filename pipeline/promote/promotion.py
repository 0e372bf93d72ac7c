"""Registers the model in artifacts/, compares it with the champion, and gives it its alias."""

from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline.core import files
from pipeline.core.params import ExportParams, PromoteParams, load_params
from pipeline.core.provenance import dvc_experiment
from pipeline.data.load import load_dataset
from pipeline.promote.cards import cards
from pipeline.promote.gate import CHALLENGER, CHAMPION, Verdict, correct_answers, judge
from pipeline.promote.roll_back import blocked
from pipeline.promote.summary import Promotion, print_summary, report
from pipeline.tracking import registry
from pipeline.tracking.runs import record_files
from pipeline.tracking.store import download, open_store


def promote() -> None:
    """Promote the model in artifacts/ unless that is done already, and print its verdict. In a DVC
    experiment, only record it.

    Raises:
        FileNotFoundError: an earlier stage has not run.
        ValueError: the certificate is another model's, or the champion's file is damaged.
        ConnectionError: MLflow failed.
    """
    params = load_params()
    with files.locked("promote"), open_store() as client:
        if experiment := dvc_experiment():
            record_files(client)
            print(
                f"recorded, and not promoted: {experiment} is an experiment. To promote it, run "
                f"`dvc exp apply {experiment}` and `dvc repro`"
            )
            return
        judged = what_is_judged(params.export, params.promote)
        last = Promotion.read()
        run_id = record_files(client)[params.export.network]
        version = registry.find_version(client, judged["model.sha256"], run_id)
        if version and registered_model(version) is None:
            version = None  # its file is damaged
        champion = registry.find_alias(client, CHAMPION)
        sound = champion is not None and registered_model(champion) is not None
        if not (version and last and sound and (last.judged, last.run_id) == (judged, run_id)):
            last = promote_again(client, version, run_id, judged)
            champion = registry.find_alias(client, CHAMPION)
            version = registry.find_version(client, judged["model.sha256"], run_id)
        assert version
        add_cards(client, version)
        files.write_atomically(files.PROMOTION, last.model_dump_json(indent=2).encode())
    print_summary(last, champion)


def what_is_judged(export: ExportParams, promote: PromoteParams) -> dict[str, Any]:
    """Return what a verdict rests on: the digests of model and certificate, and the parameters."""
    digest = files.sha256(files.require(export.model, "export"))
    certificate = files.read_json(files.CERTIFICATE, "certify")
    if certificate["model.sha256"] != digest:
        raise ValueError(f"{files.CERTIFICATE} is another model's: run `dvc repro certify`")
    return {
        "model.sha256": digest,
        "certificate.sha256": files.sha256(files.CERTIFICATE),
        "params": promote.model_dump(),
    }


def promote_again(
    client: MlflowClient, version: ModelVersion | None, run_id: str, judged: dict[str, Any]
) -> Promotion:
    """Register the model unless it is a version, judge it and give it its alias."""
    model = load_params().export.model
    if not version:
        version = registry.register(client, run_id, model, judged["model.sha256"])
    promotion = Promotion(
        version=int(version.version),
        run_id=run_id,
        judged=judged,
        **compare_with_champion(client, version, model.read_bytes()),
    )
    if promotion.alias == CHAMPION and promotion.champion_before:
        registry.tag_version(client, version, "replaced", str(promotion.champion_before))
    metrics = files.read_json(files.CERTIFICATE_METRICS, "certify")
    tags = {f"certificate.{name}": str(value) for name, value in metrics.items()}
    tags |= {name: judged[name] for name in ("model.sha256", "certificate.sha256")}
    registry.add_file(client, version, files.CERTIFICATE.name, files.CERTIFICATE.read_bytes())
    registry.evaluate(client, version)
    registry.describe(client, version, tags, report(promotion))
    registry.move_alias(client, promotion.alias, version)
    challenger = registry.find_alias(client, CHALLENGER)
    if promotion.alias == CHAMPION and challenger and challenger.version == version.version:
        client.delete_registered_model_alias(registry.registered_name(), CHALLENGER)
    return promotion


def add_cards(client: MlflowClient, version: ModelVersion) -> None:
    """Add the cards of the model in artifacts/ to its version's files unless they are there."""
    run = client.get_run(str(version.run_id))
    for name, content in cards(files.CERTIFICATE.read_bytes(), run, version.tags).items():
        if download(version.source, name) != content:
            registry.add_file(client, version, name, content)


def registered_model(version: ModelVersion) -> bytes | None:
    """Return the bytes that were registered, or None if they are lost or changed."""
    content = registry.registered_file(version)
    unchanged = content is not None and files.sha256(content) == version.tags.get("model.sha256")
    return content if unchanged else None


def compare_with_champion(
    client: MlflowClient, version: ModelVersion, model: bytes
) -> dict[str, Any]:
    """Return the verdict on the version of the model, with the accuracy and the present champion.

    Raises:
        ValueError: the champion's file is not the one that was judged.
    """
    passed = files.read_json(files.CERTIFICATE, "certify")["passed"]
    dataset = load_dataset()
    correct = correct_answers(model, dataset)
    champion, rival = registry.find_alias(client, CHAMPION), None
    if champion and champion.version == version.version:
        champion = None  # it does not have to beat itself
    if champion and champion.tags.get("model.sha256") == version.tags["model.sha256"]:
        rival = (champion.version, correct)
    elif champion:
        content = registered_model(champion)
        if content is None:
            raise ValueError(
                f"version {champion.version}, the champion, has lost its file or holds other bytes "
                "than were registered: restore it, or take its alias away in MLflow"
            )
        rival = (champion.version, correct_answers(content, dataset))
    verdict = judge(passed, correct, rival, load_params().promote)
    if version.tags["model.sha256"] in blocked(registry.all_versions(client)):
        verdict = Verdict(CHALLENGER, "it was rolled back, as the tag rolled.back shows")
    return {
        **verdict._asdict(),
        "test_accuracy": float(correct.mean()),
        "champion_before": int(champion.version) if champion else None,
    }
