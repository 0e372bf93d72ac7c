"""Makes one MLflow run of each record: `begin` starts it, `finish` completes it from the files that
the stage wrote, and `find` finds it again."""

import getpass
import json
import socket

import psutil
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, Run, RunTag
from mlflow.utils import mlflow_tags

from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.core.provenance import dvc_experiment
from pipeline.data.dataset import DATA, IMAGES, NAME
from pipeline.tracking.metrics import log_metrics, metrics_sha256
from pipeline.tracking.record import Record, content_of, read_records
from pipeline.tracking.store import artifact_storage, insert_or_update, open_experiment

CLONE = f"{socket.gethostname()}:{files.PROJECT}"


def begin(client: MlflowClient, record: Record) -> Run:
    """Create the record's run with its parameters, tags and data sets."""
    content = content_of(record)
    experiment_id = open_experiment(client, content.experiment)
    end_abandoned(client, experiment_id)
    name = record.key
    tags = {
        "git.commit": record.commit,
        "git.dirty": str(record.dirty).lower(),
        "provenance": record.provenance.model_dump_json(),
        **owner_tags(),
        mlflow_tags.MLFLOW_RUN_NOTE: content.text,
        mlflow_tags.MLFLOW_SOURCE_NAME: f"python -m pipeline.{record.provenance.stage}",
        mlflow_tags.MLFLOW_SOURCE_TYPE: "LOCAL",
        mlflow_tags.MLFLOW_GIT_COMMIT: record.commit,
        mlflow_tags.MLFLOW_USER: getpass.getuser(),
        **record.provenance.content_tags(),
        **({"execution.id": record.id} if record.id else {"restored.from.files": "true"}),
    }
    if experiment := dvc_experiment():
        tags["dvc.exp"], name = experiment, f"{name} ({experiment})"
    run = client.create_run(experiment_id, record.started_ms, tags, name)
    add_inputs(client, run.info.run_id, record)
    return run


def finish(client: MlflowClient, run_id: str, record: Record) -> None:
    """Add the metrics, files and tags that the run lacks, and mark it FINISHED; idempotent."""
    content = content_of(record)
    add_inputs(client, run_id, record)
    log_metrics(client, run_id, record)
    with artifact_storage():
        for path in content.artifacts:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), path.name)
            else:
                client.log_artifact(run_id, str(path))
    tags = content.identity | content.tags | {"metrics.sha256": metrics_sha256(record.points)}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    client.set_terminated(run_id, end_time=record.points[-1].time_ms)


def find(client: MlflowClient, record: Record) -> Run | None:
    """Return the run of the record's execution; without one, the first run with equal results."""
    if not record.id:
        return next(iter(equal_runs(client, record)), None)
    experiment_id = open_experiment(client, content_of(record).experiment)
    found = client.search_runs([experiment_id], f"tags.`execution.id` = '{record.id}'")
    return next(iter(found), None)


def equal_runs(client: MlflowClient, record: Record) -> list[Run]:
    """Return the finished runs with equal results, those of committed code first, then by age."""
    content = content_of(record)
    same = [f"tags.`{name}` = '{value}'" for name, value in content.identity.items()]
    return client.search_runs(
        [open_experiment(client, content.experiment)],
        " and ".join([*same, "attributes.status = 'FINISHED'"]),
        order_by=["tags.`git.dirty`", "start_time"],
    )


def record_files(client: MlflowClient) -> dict[str, str]:
    """Record what MLflow lacks of the trainings and the study in artifacts/; return, by key, the id
    of the first run with equal results: a model belongs to its first run."""
    with files.locked("mlflow"):
        open_experiment(client, load_params().tracking.experiment)  # the first gets number 1
        return {record.key: record_run(client, record) for record in read_records()}


def record_run(client: MlflowClient, record: Record) -> str:
    """Create or finish the record's run; return the id of the first run with equal results."""
    run = find(client, record) or begin(client, record)
    if run.info.status != "FINISHED":
        finish(client, run.info.run_id, record)
    first, *_ = [*equal_runs(client, record), run]  # none is equal if its tags were edited
    return str(first.info.run_id)


def find_trainings(client: MlflowClient, identity: str) -> list[Run]:
    """Return the trainings with that id, or with that SHA-256 of their weights, oldest first."""
    field = "tags.`weights.sha256`" if len(identity) == 64 else "attributes.run_id"
    experiment = client.get_experiment_by_name(load_params().tracking.experiment)
    if not experiment or experiment.lifecycle_stage == "deleted":
        return []
    found = f"{field} = '{identity}'"
    return client.search_runs([experiment.experiment_id], found, order_by=["start_time"])


def add_inputs(client: MlflowClient, run_id: str, record: Record) -> None:
    """Log parameters and data sets; doing it again changes nothing."""
    params = content_of(record).params
    client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])
    insert_or_update(client.log_inputs, run_id, data_sets(record.provenance.data_md5))


def data_sets(md5: str) -> list[DatasetInput]:
    """Return the training and the test images, whose digest is that of data.dvc."""
    source = json.dumps({"uri": str(DATA.relative_to(files.ROOT)), "md5": md5, "pin": "data.dvc"})
    return [
        DatasetInput(
            Dataset(
                name=f"{NAME} {context}",
                digest=md5,
                source_type="dvc",
                source=source,
                profile=json.dumps({"images": IMAGES[context]}),
            ),
            [InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, context)],
        )
        for context in IMAGES
    ]


def owner_tags() -> dict[str, str]:
    """Return the tags by which `end_abandoned` knows the runs of this clone and this process."""
    me = psutil.Process()
    return {"recorded.in": CLONE, "recorded.by": f"{me.pid} {me.create_time()}"}


def end_abandoned(client: MlflowClient, experiment_id: str) -> None:
    """Mark as KILLED the runs that this clone began and whose process has died."""
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        if run.data.tags.get("recorded.in") != CLONE:
            continue
        pid, created = run.data.tags.get("recorded.by", "0 0").split()
        try:
            alive = str(psutil.Process(int(pid)).create_time()) == created
        except psutil.Error:
            alive = False
        if not alive:
            client.set_terminated(run.info.run_id, "KILLED")
