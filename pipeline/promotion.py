"""Registers the model in artifacts/, judges it beside the champion, and gives it its alias."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline import tracking
from pipeline.artifacts import CERTIFICATE, MODEL
from pipeline.data import load_mnist
from pipeline.gate import CHALLENGER, CHAMPION, Verdict, judge, right_answers
from pipeline.params import load_params


@contextmanager
def open_store() -> Iterator[Any]:
    """Yield a client of MLflow's store.

    Raises:
        ConnectionError: the store failed; the message says what to do.
    """
    try:
        yield tracking.open_store()
    except tracking.STORE_ERRORS as error:
        raise ConnectionError(
            f"MLflow at {tracking.shown_uri()} did not take the model: {error}\n"
            "Nothing is lost: run `dvc repro` again when it is back, only promote is left to do"
        ) from error


def promote(
    judged: dict[str, Any], done: dict[str, Any], show: Callable[[str], object]
) -> tuple[dict[str, Any], int | None]:
    """Return the promotion of the model in artifacts/ and the version that is the champion now.

    judged: the SHA-256 of model and certificate, and the gate's parameters, on which a verdict
    rests; done: the last promotion, which stays if it is of the same; show: takes the report.
    """
    with open_store() as client:
        run_id = tracking.record_all(client)["batchnorm_mlp"]
        version = tracking.find_version(client, judged["model.sha256"])
        if version and (version.run_id != run_id or registered_model(version) is None):
            version = None  # its run was deleted, or its file has suffered
        if not version or done.get("judged") != judged or done["run_id"] != run_id:
            done = promote_anew(client, version, run_id, judged)
            show(report(done))
        champion = tracking.version_named(client, CHAMPION)
        return done, int(champion.version) if champion else None


def promote_anew(client: Any, version: Any, run_id: str, judged: dict[str, Any]) -> dict[str, Any]:
    """Register the model unless it is, judge it, give it its alias; return its promotion."""
    if not version:
        version = tracking.register(client, run_id, MODEL, judged["model.sha256"])
    promotion = {
        "version": int(version.version),
        **compare_with_champion(client, version),
        "run_id": run_id,
        "judged": judged,
    }
    if promotion["alias"] == CHAMPION and promotion["champion_before"]:
        tracking.tag_version(client, version, "replaced", str(promotion["champion_before"]))
    tags = {name: judged[name] for name in ("model.sha256", "certificate.sha256")}
    tracking.settle(client, version, CERTIFICATE, tags, promotion["alias"], report(promotion))
    return promotion


def registered_model(version: Any) -> bytes | None:
    """Return the bytes that were registered, None if they are no more or no longer the same."""
    try:
        content = tracking.download(version.source, MODEL.name)
    except (OSError, *tracking.STORE_ERRORS):
        return None
    same = hashlib.sha256(content).hexdigest() == version.tags.get("model.sha256")
    return content if same else None


def compare_with_champion(client: Any, version: Any) -> dict[str, Any]:
    """Return the verdict on the version of the model in artifacts/, and what it rests on.

    Raises:
        ValueError: the champion's file is not the one that was judged.
    """
    passed = json.loads(CERTIFICATE.read_text())["passed"]
    mnist = load_mnist()
    right = right_answers(MODEL.read_bytes(), mnist)
    champion, rival = tracking.version_named(client, CHAMPION), None
    if champion and champion.version == version.version:
        champion = None  # it needs not beat itself
    if champion and champion.tags.get("model.sha256") == version.tags["model.sha256"]:
        rival = (champion.version, right)
    elif champion:
        model = registered_model(champion)
        if model is None:
            raise ValueError(
                f"version {champion.version}, the champion, has lost its file or holds other bytes "
                "than were registered: restore it, or take its alias away in MLflow"
            )
        rival = (champion.version, right_answers(model, mnist))
    verdict = judge(passed, right, rival, load_params().promote)
    if version.tags["model.sha256"] in barred(tracking.all_versions(client)):
        verdict = Verdict(CHALLENGER, "it was rolled back, as the tag rolled.back says")
    return {
        **verdict._asdict(),
        "test_accuracy": float(right.mean()),
        "champion_before": int(champion.version) if champion else None,
    }


def barred(versions: dict[str, Any]) -> set[str]:
    """Return the SHA-256 of the models that were rolled back, under whatever number."""
    return {
        version.tags["model.sha256"]
        for version in versions.values()
        if "rolled.back" in version.tags and "model.sha256" in version.tags
    }


def report(promotion: dict[str, Any]) -> str:
    """Return the promotion in Markdown."""
    before, reason = promotion["champion_before"], promotion["reason"]
    return f"""\
## mnist-batchnorm version {promotion["version"]} was judged {promotion["alias"]}

{reason[0].upper()}{reason[1:]}.

| | |
| --- | --- |
| test accuracy | {promotion["test_accuracy"]:.2%} |
| champion before | {f"version {before}" if before else "none"} |
| SHA-256 of the model | `{promotion["judged"]["model.sha256"]}` |
| SHA-256 of its certificate | `{promotion["judged"]["certificate.sha256"]}` |
| training run | `{promotion["run_id"]}` |
"""


def champion_before(versions: dict[str, Any], champion: Any) -> Any:
    """Return the last champion before this one that is there and not barred.

    Raises:
        ValueError: there is none.
    """
    bad = barred(versions) | {champion.tags.get("model.sha256")}
    seen, number = {str(champion.version)}, champion.tags.get("replaced")
    while number in versions and number not in seen:
        seen.add(number)
        if versions[number].tags.get("model.sha256") not in bad:
            return versions[number]
        number = versions[number].tags.get("replaced")
    raise ValueError("there is no champion before this one to go back to")


def roll_back() -> str:
    """Make the champion before the champion again, and return a sentence that says so.

    Raises:
        ValueError: there is none.
    """
    with open_store() as client:
        champion = tracking.version_named(client, CHAMPION)
        if not champion:
            raise ValueError("there is no champion to roll back")
        before = champion_before(tracking.all_versions(client), champion)
        tracking.move_alias(client, CHAMPION, before)
        tracking.tag_version(client, champion, "rolled.back", "true")
    return (
        f"version {before.version} is the champion again; the model of version {champion.version} "
        "stays barred until its tag rolled.back is removed in MLflow"
    )
