"""The MLflow run of each adaptation: its parameters, the sample, what was seen, and the verdict."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils import mlflow_tags

from pipeline.core.params import load_params
from pipeline.tracking.runs import end_abandoned, owner_tags
from pipeline.tracking.store import artifact_storage, open_experiment

SAMPLE = "sample.safetensors"  # the file of the run
NONE = "none"  # the verdict if no candidate won


@contextmanager
def adaptation_run(client: MlflowClient, champion: ModelVersion) -> Iterator[str]:
    """Create the run of an adaptation, and yield its id; it is FAILED if the block raises, and
    FINISHED otherwise."""
    params = load_params()
    experiment_id = open_experiment(client, params.tracking.adapt_experiment)
    end_abandoned(client, experiment_id)
    tags = {"champion": str(champion.version), "training.run_id": str(champion.run_id)}
    name = f"{params.export.network} from version {champion.version}"
    run_id = str(client.create_run(experiment_id, None, owner_tags() | tags, name).info.run_id)
    given = [Param(name, str(value)) for name, value in params.adapt.model_dump().items()]
    client.log_batch(run_id, params=given)
    status = "FAILED"
    try:
        yield run_id
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)


def record_sample(client: MlflowClient, run_id: str, content: bytes, sha256: str) -> None:
    """Add the sample to a run."""
    with artifact_storage(), TemporaryDirectory() as folder:
        path = Path(folder) / SAMPLE
        path.write_bytes(content)
        client.log_artifact(run_id, str(path))
    client.set_tag(run_id, "sample.sha256", sha256)


def record_verdict(client: MlflowClient, run_id: str, verdict: str, reason: str) -> None:
    """Tag a run with the candidate that won, or "none", and describe it by the reason."""
    tags = {"verdict": verdict, mlflow_tags.MLFLOW_RUN_NOTE: reason}
    client.log_batch(run_id, tags=[RunTag(*tag) for tag in tags.items()])


def find_adaptation(client: MlflowClient, run_id: str) -> Run | None:
    """Return the run of an adaptation, or None if it was deleted."""
    experiment_id = open_experiment(client, load_params().tracking.adapt_experiment)
    found = client.search_runs([experiment_id], f"attributes.run_id = '{run_id}'")
    return next(iter(found), None)


def last_adaptation(
    client: MlflowClient, query: str = "attributes.status != 'KILLED'"
) -> Run | None:
    """Return the run of the last adaptation that was not killed, or that answers a query."""
    experiment_id = open_experiment(client, load_params().tracking.adapt_experiment)
    end_abandoned(client, experiment_id)
    order = ["start_time DESC"]
    return next(iter(client.search_runs([experiment_id], query, 1, order_by=order)), None)


def last_win(client: MlflowClient) -> Run | None:
    """Return the run of the last adaptation that found a better network than the champion."""
    return last_adaptation(client, f"attributes.status = 'FINISHED' and tags.verdict != '{NONE}'")


def may_run(run: Run) -> bool:
    """Return whether an adaptation is still going on, and not killed in another clone."""
    params = load_params().adapt
    age_s = time.time() - run.info.start_time / 1000
    return run.info.status == "RUNNING" and age_s < params.wait_s + params.cooldown_s
