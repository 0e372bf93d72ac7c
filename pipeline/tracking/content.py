"""What MLflow shows of a record: its experiment, description, parameters, tags and files."""

from pathlib import Path
from typing import Any, NamedTuple

from models import NETWORKS
from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.data.dataset import NAME
from pipeline.tracking.record import Record


class Content(NamedTuple):
    """The content of a run.

    identity: the tags that runs with equal results share, among them the digest of the results.
    tags, artifacts: of a run whose results are there; an artifact is a file or a folder.
    """

    experiment: str
    text: str
    params: dict[str, Any]
    identity: dict[str, str]
    tags: dict[str, str]
    artifacts: list[Path]


def content_of(record: Record) -> Content:
    """Return the content of the record's run."""
    return study(record) if record.provenance.stage == "study" else training(record)


def training(record: Record) -> Content:
    """Return the content of a training's run."""
    params = record.provenance.params
    return Content(
        experiment=load_params().tracking.experiment,
        text=f"{NETWORKS[record.key].title} trained on {NAME} by plain SGD: {params['epochs']} "
        f"epochs, batch size {params['batch_size']}, learning rate {params['lr']}, seed "
        f"{params['seed']}",
        params={"network": record.key, **params},
        identity={"weights.sha256": record.result_sha256, **record.provenance.content_tags()},
        tags={},
        artifacts=[files.LOSSES_FIGURE, files.confusion_path(record.key), files.PREDICTIONS],
    )


def study(record: Record) -> Content:
    """Return the content of the study's run."""
    verdicts = files.read_json(files.VERDICTS, "study")
    return Content(
        experiment=load_params().tracking.study_experiment,
        text=f"{len(verdicts)} claims about batch normalization, tested on {NAME}: the tags have "
        "the verdicts, the metrics the intervals, and study/report.html is the report",
        params=record.provenance.params,
        identity={"verdicts.sha256": record.result_sha256, **record.provenance.content_tags()},
        tags={f"{claim}.verdict": verdict["verdict"] for claim, verdict in verdicts.items()},
        artifacts=[files.STUDY],
    )
