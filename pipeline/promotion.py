"""Registers the model in artifacts/, judges it beside the champion, and gives it its alias."""

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
        if not version or done.get("judged") != judged or done["run_id"] != run_id:
            done = promote_anew(client, version, run_id, judged)
            show(report(done))
        champion = tracking.version_named(client, CHAMPION)
        return done, int(champion.version) if champion else None


def promote_anew(client: Any, version: Any, run_id: str, judged: dict[str, Any]) -> dict[str, Any]:
    """Register the model unless it is, judge it, give it its alias; return its promotion."""
    if not version or version.run_id != run_id:  # the latter if its run was deleted
        version = tracking.register(client, run_id, MODEL, judged["model.sha256"])
    promotion = {
        "version": int(version.version),
        **compare_with_champion(client, version),
        "run_id": run_id,
        "judged": judged,
    }
    tags = {name: judged[name] for name in ("model.sha256", "certificate.sha256")}
    if promotion["alias"] == CHAMPION and promotion["champion_before"]:
        tags["replaced"] = str(promotion["champion_before"])
    tracking.settle(client, version, CERTIFICATE, tags, promotion["alias"], report(promotion))
    return promotion


def compare_with_champion(client: Any, version: Any) -> dict[str, Any]:
    """Return the verdict on the version of the model in artifacts/, and what it rests on."""
    passed = json.loads(CERTIFICATE.read_text())["passed"]
    mnist = load_mnist()
    right = right_answers(MODEL.read_bytes(), mnist)
    champion, rival = tracking.version_named(client, CHAMPION), None
    if champion and champion.version == version.version:
        champion = None  # it needs not beat itself
    if champion:
        model = tracking.download(champion.source, MODEL.name)
        rival = (champion.version, right_answers(model, mnist))
    verdict = judge(passed, right, rival, load_params().promote)
    if "rolled.back" in version.tags:
        verdict = Verdict(CHALLENGER, "it was rolled back, as its tag rolled.back says")
    return {
        **verdict._asdict(),
        "test_accuracy": float(right.mean()),
        "champion_before": int(champion.version) if champion else None,
    }


def report(promotion: dict[str, Any]) -> str:
    """Return the promotion in Markdown."""
    before, reason = promotion["champion_before"], promotion["reason"]
    return f"""\
## mnist-batchnorm version {promotion["version"]} is the {promotion["alias"]}

{reason[0].upper()}{reason[1:]}.

| | |
| --- | --- |
| test accuracy | {promotion["test_accuracy"]:.2%} |
| champion before | {f"version {before}" if before else "none"} |
| SHA-256 of the model | `{promotion["judged"]["model.sha256"]}` |
| SHA-256 of its certificate | `{promotion["judged"]["certificate.sha256"]}` |
| training run | `{promotion["run_id"]}` |
"""


def roll_back() -> str:
    """Make the champion before the champion again, and return a sentence that says so.

    Raises:
        ValueError: there is none.
    """
    with open_store() as client:
        champion = tracking.version_named(client, CHAMPION)
        before = champion.tags.get("replaced") if champion else None
        if not champion or not before:
            raise ValueError("there is no champion before this one to go back to")
        tracking.roll_back(client, champion, before)
    return (
        f"version {before} is the champion again; version {champion.version} stays barred "
        "until its tag rolled.back is removed in MLflow"
    )
