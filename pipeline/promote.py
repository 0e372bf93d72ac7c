"""Lets the certified model become the champion, or says why not: `python -m pipeline.promote`.

Reads the model, its certificate and the test images; records in MLflow what is missing there,
registers the model, judges it against the champion and writes artifacts/promotion.json. The same
model is judged once. With --roll-back the champion before becomes the champion again.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

from pipeline import tracking
from pipeline.artifacts import (
    CERTIFICATE,
    MODEL,
    PROJECT,
    PROMOTION,
    ROOT,
    only_one,
    require,
    sha256,
    write_whole,
)
from pipeline.data import load_mnist
from pipeline.gate import CHALLENGER, CHAMPION, Verdict, judge, right_answers
from pipeline.params import PromoteParams, load_params


def promote(client: Any) -> dict[str, Any]:
    """Register and judge the model in artifacts/ if that is not done; return its promotion.

    Raises:
        FileNotFoundError: a stage before has not been run.
        ValueError: the certificate is another model's.
    """
    params = load_params().promote
    certificate = json.loads(require(CERTIFICATE, "certify").read_text())
    tags = {
        "model.sha256": sha256(require(MODEL, "export")),
        "certificate.sha256": sha256(CERTIFICATE),
    }
    if certificate["model_sha256"] != tags["model.sha256"]:
        raise ValueError(f"{CERTIFICATE} is of another model: run `dvc repro certify`")
    run_id = tracking.record_runs(client)["batchnorm_mlp"]
    version = tracking.find_version(client, tags["model.sha256"])
    judged = tags | {"run_id": run_id, "params": params.model_dump()}
    done = json.loads(PROMOTION.read_text()) if PROMOTION.is_file() else {}
    if version and done.get("judged") == judged:
        return done

    with show_in_prefect() as prefect:
        if not version or version.run_id != run_id:  # the latter if its run was deleted
            version = tracking.register(client, run_id, MODEL, tags["model.sha256"])
        verdict = compare_with_champion(client, version, certificate["passed"], params)
        promotion = {"version": version.version, **verdict, "judged": judged}
        if verdict["alias"] == CHAMPION and verdict["champion_before"]:
            tags["replaced"] = str(verdict["champion_before"])
        text = report(promotion)
        tracking.settle(client, version, CERTIFICATE, tags, verdict["alias"], text)
        prefect.communicate(text)
    write_whole(PROMOTION, json.dumps(promotion, indent=2).encode())
    return promotion


def show_in_prefect() -> subprocess.Popen[str]:
    """Start the flow that shows what it is sent. Prefect takes seconds to start, and does so while
    MLflow is at work; MLflow has the report too, so if Prefect fails, the promotion does not."""
    command = [sys.executable, "-m", "pipeline.flow", "promote"]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True)


def compare_with_champion(
    client: Any, version: Any, passed: bool, params: PromoteParams
) -> dict[str, Any]:
    """Return the verdict on the version of the model in artifacts/, and what it rests on."""
    mnist = load_mnist()
    right = right_answers(MODEL.read_bytes(), mnist)
    champion, rival = tracking.version_named(client, CHAMPION), None
    if champion and champion.version == version.version:
        champion = None  # it needs not beat itself
    if champion:
        model = tracking.download(champion.source, MODEL.name)
        rival = (champion.version, right_answers(model, mnist))
    verdict = judge(passed, right, rival, params)
    if "rolled.back" in version.tags:
        verdict = Verdict(CHALLENGER, "it was rolled back, as its tag rolled.back says")
    return {
        **verdict._asdict(),
        "test_accuracy": float(right.mean()),
        "champion_before": champion.version if champion else None,
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
| training run | `{promotion["judged"]["run_id"]}` |
"""


def roll_back(client: Any) -> str:
    """Make the champion before the champion again, and return a sentence that says so.

    Raises:
        ValueError: there is none.
    """
    champion = tracking.version_named(client, CHAMPION)
    before = champion.tags.get("replaced") if champion else None
    if not champion or not before:
        raise ValueError("there is no champion before this one to go back to")
    tracking.roll_back(client, champion, before)
    return (
        f"version {before} is the champion again; version {champion.version} stays barred "
        "until its tag rolled.back is removed in MLflow"
    )


def main() -> None:
    """Promote the model in artifacts/, or roll the last promotion back."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.promote", description=__doc__)
    parser.add_argument("--roll-back", action="store_true", help="undo the last promotion")
    arguments = parser.parse_args()
    try:
        client = tracking.open_store()
        with only_one(PROJECT / ".dvc" / "tmp" / "promote.lock"):
            if arguments.roll_back:
                print(roll_back(client))
                return
            promotion = promote(client)
            champion = tracking.version_named(client, CHAMPION)
    except tracking.STORE_ERRORS as error:
        sys.exit(
            f"error: MLflow at {tracking.shown_uri()} did not take the model: {error}\n"
            "Nothing is lost: run `dvc repro` again when it is back, only promote is left to do"
        )
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print("version {version} was judged {alias}: {reason}".format(**promotion))
    print(f"the champion is version {champion.version if champion else 'none'}")


if __name__ == "__main__":
    main()
