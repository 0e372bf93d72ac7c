"""What MLflow is to hold of each training and of the study: read from the files of the stages."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.artifacts import (
    KEYS,
    LOSSES,
    PROVENANCE,
    STUDY,
    STUDY_PROVENANCE,
    VERDICTS,
    history_path,
    require,
    sha256,
    weights_path,
)
from pipeline.history import points, read_history
from pipeline.provenance import lineage_tags, read_provenance

EXPERIMENT = "mnist-batchnorm"
STUDY_EXPERIMENT = "mnist-batchnorm-study"


class Recording(NamedTuple):
    """One run. The tags that `identity` names tell it from all others of its experiment.

    metrics: name, value, time in milliseconds since 1970, and epoch; files: a file or a folder.
    """

    experiment: str
    name: str
    stage: str
    start_ms: int
    identity: tuple[str, ...]
    tags: dict[str, str]
    params: Mapping[str, Any]
    metrics: list[tuple[str, float, int, int]]
    files: Path


def recordings() -> list[Recording]:
    """Return a recording of each network that is trained here, and of the study if it was run."""
    found = [of_training(key) for key in KEYS if weights_path(key).is_file()]
    return [*found, of_study()] if VERDICTS.is_file() else found


def of_training(key: str) -> Recording:
    """Return what one network's run holds: every epoch, and the picture of both networks."""
    provenance = read_provenance(PROVENANCE, "train")
    start_s = _start_s(provenance)
    history = read_history(require(history_path(key), "train"))
    return Recording(
        experiment=EXPERIMENT,
        name=key,
        stage="train",
        start_ms=round(start_s * 1000),
        identity=("weights.sha256", "params.sha256", "data.md5"),
        tags={"weights.sha256": sha256(weights_path(key)), **lineage_tags(provenance)},
        params={"network": key, **provenance["params"]},
        metrics=list(points(history, start_s)),
        files=require(LOSSES, "train"),
    )


def of_study() -> Recording:
    """Return what the study's run holds: every interval and verdict, and the whole report."""
    provenance = read_provenance(STUDY_PROVENANCE, "study")
    start_ms = round(_start_s(provenance) * 1000)
    verdicts = json.loads(VERDICTS.read_text())
    found = {f"{claim}.verdict": verdict["verdict"] for claim, verdict in verdicts.items()}
    return Recording(
        experiment=STUDY_EXPERIMENT,
        name="study",
        stage="study",
        start_ms=start_ms,
        identity=("verdicts.sha256", "params.sha256", "data.md5"),
        tags={"verdicts.sha256": sha256(VERDICTS), **lineage_tags(provenance)},
        params={**provenance["params"], **found},
        metrics=[
            (f"{claim}.{bound}", verdict[bound], start_ms, 0)
            for claim, verdict in verdicts.items()
            for bound in ("mean", "low", "high")
        ],
        files=STUDY,
    )


def _start_s(provenance: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(provenance["started"]).timestamp()
