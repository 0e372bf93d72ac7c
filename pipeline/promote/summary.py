"""The verdict on a version: artifacts/promotion.json, MLflow's description, lines in a terminal."""

from typing import Any

from mlflow.entities.model_registry import ModelVersion
from pydantic import BaseModel, ConfigDict, ValidationError

from models import NETWORKS
from pipeline.core import files


class Promotion(BaseModel):
    """The verdict on a version.

    champion_before: the champion before it; judged: see `promotion.what_is_judged`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    alias: str
    reason: str
    test_accuracy: float
    champion_before: int | None
    run_id: str
    judged: dict[str, Any]

    @classmethod
    def read(cls) -> "Promotion | None":
        """Return the last one, or None if there is none or it is unreadable."""
        try:
            return cls.model_validate_json(files.PROMOTION.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None  # the model is judged again


def print_summary(last: Promotion, champion: ModelVersion | None) -> None:
    """Print the accuracies, the certificate, the verdict and its reason, and what to do next."""
    trained = files.read_json(files.ACCURACY, "train")
    accuracies = [f"{NETWORKS[key].title} {trained[key]:.2%}" for key in NETWORKS if key in trained]
    certificate = files.read_json(files.CERTIFICATE, "certify")
    flipped, images = certificate["flipped"]["server"], certificate["images"]
    rows = {
        "test accuracy": ", ".join(accuracies),
        "certificate": f"{flipped} of {images:,} served answers differ from PyTorch's",
        "verdict": f"version {last.version} was judged {last.alias}: {last.reason}",
        "champion": f"version {champion.version}" if champion else "none",
        "make ui": "to compare the runs in MLflow",
        "make serve": "to try the networks in a browser",
    }
    print(*(f"{name:<14} {text}" for name, text in rows.items()), sep="\n")


def report(promotion: Promotion) -> str:
    """Return the promotion in Markdown."""
    before, reason = promotion.champion_before, promotion.reason
    return f"""\
## Version {promotion.version} was judged {promotion.alias}

{reason[0].upper()}{reason[1:]}.

| | |
| --- | --- |
| test accuracy | {promotion.test_accuracy:.2%} |
| previous champion | {f"version {before}" if before else "none"} |
"""
