"""Makes one MLflow run of each training and of each study, and finds runs.

A run begins with its training and is finished from the files that the stage wrote. Finishing it
again changes nothing.
"""

import getpass
import json
import os
import socket
from collections.abc import Iterator

import psutil
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils import mlflow_tags

from models import NETWORKS
from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.core.provenance import dvc_experiment
from pipeline.data.dataset import DATA, IMAGES, NAME
from pipeline.tracking.metrics import holds, metric_history, metrics_sha256
from pipeline.tracking.recordings import Header, Recording, study, training
from pipeline.tracking.store import artifact_storage, open_experiment

CLONE = f"{socket.gethostname()}:{files.PROJECT}"
EXECUTION = "execution.id"


def begin(client: MlflowClient, header: Header) -> str:
    """Create a run with its parameters, tags and data sets, and return its id."""
    experiment_id = open_experiment(client, header.experiment)
    end_abandoned(client, experiment_id)
    provenance = header.provenance
    me = psutil.Process()
    tags = provenance.tags() | {
        "recorded.in": CLONE,
        "recorded.by": f"{me.pid} {me.create_time()}",
        mlflow_tags.MLFLOW_RUN_NOTE: header.text,
        mlflow_tags.MLFLOW_SOURCE_NAME: f"python -m pipeline.{header.stage}",
        mlflow_tags.MLFLOW_SOURCE_TYPE: "LOCAL",
        mlflow_tags.MLFLOW_GIT_COMMIT: provenance.commit,
        mlflow_tags.MLFLOW_USER: getpass.getuser(),
    }
    name = header.key
    if name in NETWORKS:
        tags["mlflow.runColor"] = NETWORKS[name].color
    if header.execution_id:
        tags[EXECUTION] = header.execution_id
    if experiment := dvc_experiment():
        tags["dvc.exp"], name = experiment, f"{name} ({experiment})"
    run = client.create_run(experiment_id, header.started_ms, tags, name)
    add_inputs(client, run.info.run_id, header)
    return str(run.info.run_id)


def add_inputs(client: MlflowClient, run_id: str, header: Header) -> None:
    """Log parameters and data sets; doing it again changes nothing."""
    client.log_batch(run_id, params=[Param(k, str(value)) for k, value in header.params.items()])
    inputs = data_sets(header.provenance.data_md5)
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException:  # another clone added the data set at the same moment
        client.log_inputs(run_id, inputs)


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


def end_abandoned(client: MlflowClient, experiment_id: str) -> None:
    """Mark the runs that this clone began and whose process was killed."""
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


def record_trainings(client: MlflowClient) -> dict[str, str]:
    """Record the trainings in artifacts/; return the id of each network's run, by key."""
    return record_all(client, [training(key) for key in NETWORKS])


def record_study(client: MlflowClient) -> dict[str, str]:
    """Record the study in artifacts/; return the id of its run, by the name "study"."""
    return record_all(client, [study()])


def record_present(client: MlflowClient) -> dict[str, str]:
    """Record whichever trainings, and the study if there is one, are in artifacts/."""
    recordings = [training(key) for key in NETWORKS if files.weights_path(key).is_file()]
    if files.VERDICTS.is_file():
        recordings.append(study())
    return record_all(client, recordings)


def record_all(client: MlflowClient, recordings: list[Recording]) -> dict[str, str]:
    """Record what is missing; return the ids of runs with that content, by key; see `record`."""
    with files.locked("mlflow"):
        open_experiment(client, load_params().tracking.experiment)  # the first gets number 1
        return {recording.header.key: record(client, recording) for recording in recordings}


def record(client: MlflowClient, recording: Recording) -> str:
    """Finish the run of the recording's execution, or begin one unless the same content has a
    finished run; return the id of the first of `sound_runs`.

    A run whose content was changed afterwards is deleted.
    """
    header = recording.header
    sound = list(sound_runs(client, recording))
    own = find_execution(client, header)
    if sound and (not header.execution_id or own in sound):
        return sound[0]
    if not own:
        own = begin(client, header)
        if os.environ.get("DVC_STAGE") != header.stage:  # DVC's name of the stage it runs
            client.set_tag(own, "restored.from.files", "true")
    finish(client, own, recording)
    return [*sound, own][0]


def find_execution(client: MlflowClient, header: Header) -> str | None:
    """Return the id of the run of the header's execution, unless a copy of this clone is about to
    finish it."""
    if not header.execution_id:
        return None
    experiment_id = open_experiment(client, header.experiment)
    same = f"tags.`{EXECUTION}` = '{header.execution_id}'"
    for run in client.search_runs([experiment_id], same):
        if run.info.status == "FINISHED" or run.data.tags.get("recorded.in") == CLONE:
            return str(run.info.run_id)
    return None


def sound_runs(client: MlflowClient, recording: Recording) -> Iterator[str]:
    """Yield the ids of the finished runs with the recording's content: those of committed code
    first, then the oldest. Delete those whose parameters or metrics were changed."""
    header = recording.header
    identity = recording.result | header.provenance.content_tags()
    same = " and ".join(f"tags.`{name}` = '{value}'" for name, value in identity.items())
    same += " and attributes.status = 'FINISHED'"
    experiment_id = open_experiment(client, header.experiment)
    for run in client.search_runs(
        [experiment_id], same, order_by=["tags.`git.dirty`", "start_time"]
    ):
        if holds(client, run, recording):
            yield run.info.run_id
        else:
            client.delete_run(run.info.run_id)


def finish(client: MlflowClient, run_id: str, recording: Recording) -> None:
    """Add to a run what it lacks of the recording, and end it."""
    add_inputs(client, run_id, recording.header)
    names = {name for name, *_ in recording.metrics}
    there = {(m.key, m.value, m.step) for m in metric_history(client, run_id, names)}
    missing = [Metric(*p) for p in recording.metrics if (p[0], p[1], p[3]) not in there]
    for i in range(0, len(missing), 1000):  # a batch holds at most 1000
        client.log_batch(run_id, missing[i : i + 1000])
    with artifact_storage():
        for path in recording.artifacts:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), path.name)
            else:
                client.log_artifact(run_id, str(path))
    tags = recording.result | recording.tags
    tags["metrics.sha256"] = metrics_sha256(recording.metrics)
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    client.set_terminated(run_id, end_time=recording.metrics[-1][2])


def find_runs(client: MlflowClient, identity: str) -> list[Run]:
    """Return the trainings with that id, or with that SHA-256 of their weights, oldest first."""
    field = "tags.`weights.sha256`" if len(identity) == 64 else "attributes.run_id"
    experiment = client.get_experiment_by_name(load_params().tracking.experiment)
    if not experiment or experiment.lifecycle_stage == "deleted":
        return []
    found = f"{field} = '{identity}'"
    return client.search_runs([experiment.experiment_id], found, order_by=["start_time"])
