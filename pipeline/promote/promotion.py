"""Registers the model in artifacts/, compares it with the champion, and gives it its alias."""

from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from models import NETWORKS
from pipeline.core import files
from pipeline.core.params import ExportParams, PromoteParams, load_params
from pipeline.core.provenance import dvc_experiment
from pipeline.data.load import Dataset, load_dataset
from pipeline.promote.cards import cards
from pipeline.promote.gate import CHALLENGER, CHAMPION, Verdict, correct_answers, judge
from pipeline.promote.roll_back import blocked
from pipeline.promote.summary import Promotion, print_summary, report
from pipeline.tracking import registry
from pipeline.tracking.registry import ADAPTED_FROM
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
            # Its tags are new; and the newest version of the model may be another clone's.
            version = client.get_model_version(registry.registered_name(), str(last.version))
        add_files(client, version)
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
    """Register the model unless it is a version, judge it and give it its alias.

    MLflow cannot move an alias only if nobody else has moved it. So the tag `replaced` makes the
    version a rival of all others before it gets the alias, and it is judged again afterwards: of
    several clones, the last to move it has seen the others' versions, and gives it to a better one.
    """
    model = load_params().export.model
    if not version:
        version = registry.register(client, run_id, model, judged["model.sha256"])
    metrics = files.read_json(files.CERTIFICATE_METRICS, "certify")
    tags = {f"certificate.{name}": str(value) for name, value in metrics.items()}
    tags |= {name: judged[name] for name in ("model.sha256", "certificate.sha256")}
    registry.add_file(client, version, files.CERTIFICATE.name, files.CERTIFICATE.read_bytes())
    registry.evaluate(client, version)
    number, dataset = str(version.version), load_dataset()
    correct = {number: correct_answers(model.read_bytes(), dataset)}
    before = registry.find_alias(client, CHAMPION)
    # A version that was adapted from it stays the champion.
    held = before is not None and number in (str(before.version), before.tags.get(ADAPTED_FROM))
    replaced = int(before.version) if before and not held else None
    promotion = verdict = None
    while (again := judge_version(client, version, dataset, correct)) != verdict:
        verdict = again
        promotion = Promotion(
            version=int(number),
            alias=verdict.alias,
            reason=verdict.reason,
            test_accuracy=float(correct[number].mean()),
            champion_before=replaced,
            run_id=run_id,
            judged=judged,
        )
        registry.tag_run(client, run_id, tags)
        registry.describe(client, version, tags, report(promotion))
        if promotion.alias == CHAMPION and not held:
            registry.tag_version(client, version, "replaced", str(replaced))
            registry.move_alias(client, CHAMPION, number)
            held = True
        elif verdict.better and held:
            registry.move_alias(client, CHAMPION, verdict.better)
    assert promotion
    challenger = registry.find_alias(client, CHALLENGER)
    if promotion.alias == CHALLENGER:
        registry.move_alias(client, CHALLENGER, number)
    elif challenger and str(challenger.version) == number:
        client.delete_registered_model_alias(registry.registered_name(), CHALLENGER)
    return promotion


def add_files(client: MlflowClient, version: ModelVersion) -> None:
    """Add the cards of the model in artifacts/, and the weights of all networks of its training, to
    its version's files unless they are there."""
    run = client.get_run(str(version.run_id))
    weights = {path.name: path.read_bytes() for path in map(files.weights_path, NETWORKS)}
    its_cards = cards(files.CERTIFICATE.read_bytes(), run, version.tags)
    for name, content in (its_cards | weights).items():
        if download(version.source, name) != content:
            registry.add_file(client, version, name, content)


def registered_model(version: ModelVersion) -> bytes | None:
    """Return the bytes that were registered, or None if they are lost or changed."""
    content = registry.registered_file(version)
    unchanged = content is not None and files.sha256(content) == version.tags.get("model.sha256")
    return content if unchanged else None


def judge_version(
    client: MlflowClient, version: ModelVersion, dataset: Dataset, correct: dict[str, np.ndarray]
) -> Verdict:
    """Return the verdict on the version, whose rivals are the best champion so far and the present
    one, but for champions that were rolled back, and with what an adapted one was adapted from.

    correct: (N,) bool, the answers to the test images by version: its own, and those of the rivals
    that it has met, to which new ones are added.

    Raises:
        ValueError: the present champion's file is not the one that was judged.
    """
    champion, versions = registry.find_alias(client, CHAMPION), registry.all_versions(client)
    if champion and (trained := champion.tags.get(ADAPTED_FROM)):
        champion = versions.get(trained)
    own, bad = version.tags["model.sha256"], blocked(versions)
    others = {n: v for n, v in versions.items() if v.tags.get("model.sha256") not in bad | {own}}
    former = [one for one in others.values() if "replaced" in one.tags]
    ranked = registry.best_first(client, former, version.tags["data.md5"])
    best = next((one for one in ranked if registered_model(one) is not None), None)
    for rival in (best, champion):
        if rival and str(rival.version) in others.keys() - correct.keys():
            content = registered_model(rival)
            if content is None:
                raise ValueError(
                    f"version {rival.version}, the champion, has lost its file or holds other "
                    "bytes than were registered: restore it, or take its alias away in MLflow"
                )
            correct[str(rival.version)] = correct_answers(content, dataset)
    if own in bad:
        reason = "it was rolled back, as the tag rolled.back shows"
        return Verdict(CHALLENGER, reason, str(best.version) if best else None)
    passed = files.read_json(files.CERTIFICATE, "certify")["passed"]
    rivals = dict(correct)
    return judge(passed, rivals.pop(str(version.version)), rivals, load_params().promote)
