"""Records what was trained in MLflow: `python -m pipeline.tracking`. All that knows MLflow.

Reads what the stages wrote and makes one run a network and one a study, whole or not at all. The
same content is the same run, and the same model file the same version: doing it again changes
nothing.
"""

import logging
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.onnx
import numpy as np
import onnx
import onnxruntime as ort
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature
from sqlalchemy.exc import SQLAlchemyError

from pipeline.artifacts import PROJECT, only_one
from pipeline.provenance import git, is_dirty
from pipeline.recording import EXPERIMENT, Recording, recordings

REGISTERED_MODEL = EXPERIMENT
DATABASE = PROJECT / "mlflow.db"
OWN_STORE = f"sqlite:///{DATABASE}"
STORE_ERRORS = (MlflowException, SQLAlchemyError)


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or else the address of the project's own SQLite store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or OWN_STORE


def shown_uri() -> str:
    """Return the store's address without the password that it may hold."""
    return re.sub(r"//[^/@]*@", "//…@", tracking_uri())


def open_store() -> MlflowClient:
    """Return a client of the store; a new SQLite store gets its name only when it is whole."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a new store's many migrations
    if tracking_uri() == OWN_STORE and not DATABASE.exists():
        part = DATABASE.with_name(DATABASE.name + ".part")
        part.unlink(missing_ok=True)
        MlflowClient(f"sqlite:///{part}")  # makes the tables
        part.replace(DATABASE)
    return MlflowClient(tracking_uri())


def open_experiment(client: MlflowClient, name: str) -> str:
    """Return the experiment's id, making the experiment where there is none."""
    experiment = client.get_experiment_by_name(name)
    if not experiment:  # a server knows where its artifacts lie
        own = None if tracking_uri().startswith("http") else (PROJECT / "mlartifacts").as_uri()
        return client.create_experiment(name, own)
    if experiment.lifecycle_stage == "deleted":  # in the UI: its name stays taken
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def record_all(client: MlflowClient) -> dict[str, str]:
    """Return the id of the run of each network and of the study, recording what is missing."""
    with only_one(PROJECT / ".dvc" / "tmp" / "mlflow.lock"):
        open_experiment(client, EXPERIMENT)  # before the study's: it is to be number 1
        return {one.name: record(client, one) for one in recordings()}


def find_runs(client: MlflowClient, identity: str) -> list[Run]:
    """Return the trainings with that id, or those that made the weights with that SHA-256."""
    field = "tags.`weights.sha256`" if len(identity) == 64 else "attributes.run_id"
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if not experiment or experiment.lifecycle_stage == "deleted":
        return []
    return client.search_runs([experiment.experiment_id], f"{field} = '{identity}'")


def record(client: MlflowClient, one: Recording) -> str:
    """Return the id of the run with the recording's identity, making the run if there is none."""
    experiment_id = open_experiment(client, one.experiment)
    same = " and ".join(f"tags.`{name}` = '{one.tags[name]}'" for name in one.identity)
    for run in client.search_runs([experiment_id], same):
        if run.info.status == "FINISHED":
            return run.info.run_id
        client.delete_run(run.info.run_id)  # its recording was cut short

    tags = {**one.tags, "mlflow.source.git.commit": one.tags["git.commit"]}
    if os.environ.get("DVC_STAGE") != one.stage:  # DVC's name of the stage that it runs
        tags["restored.from.files"] = "true"
    run_id = client.create_run(experiment_id, one.start_ms, tags, one.name).info.run_id
    params = [Param(name, str(value)) for name, value in one.params.items()]
    client.log_batch(run_id, params=params)
    metrics = [Metric(*point) for point in one.metrics]
    for i in range(0, len(metrics), 1000):  # a batch holds at most 1000
        client.log_batch(run_id, metrics[i : i + 1000])
    log = client.log_artifacts if one.files.is_dir() else client.log_artifact
    log(run_id, str(one.files))
    client.set_terminated(run_id, end_time=metrics[-1].timestamp)
    return run_id


def find_version(client: MlflowClient, model_sha256: str) -> ModelVersion | None:
    """Return the newest registered version of a file whose SHA-256 begins so."""
    begins = f"name = '{REGISTERED_MODEL}' and tags.`model.sha256` LIKE '{model_sha256}%'"
    found = client.search_model_versions(begins, order_by=["version_number DESC"])
    return found[0] if found else None


def version_named(client: MlflowClient, alias: str) -> ModelVersion | None:
    """Return the version that has the alias."""
    models = client.search_registered_models(f"name = '{REGISTERED_MODEL}'")
    number = models[0].aliases.get(alias) if models else None
    return client.get_model_version(REGISTERED_MODEL, number) if number else None


def all_versions(client: MlflowClient) -> dict[str, ModelVersion]:
    """Return every version by its number."""
    found = client.search_model_versions(f"name = '{REGISTERED_MODEL}'", max_results=10_000)
    return {str(version.version): version for version in found}


def logged_model(version: ModelVersion) -> str:
    """Return the id of the model that MLflow keeps the version's files with."""
    return str(version.source).removeprefix("models:/")  # its field model_id may be empty


def register(client: MlflowClient, run_id: str, path: Path, digest: str) -> ModelVersion:
    """Register a model file as the next version; what an earlier attempt left goes."""
    run = client.get_run(run_id)
    not_lineage = ("mlflow.", "model.", "certificate.")  # the latter of another model of the run
    tags = {name: run.data.tags[name] for name in run.data.tags if not name.startswith(not_lineage)}
    tags |= {"model.sha256": digest, "registered.git.commit": git("rev-parse", "HEAD")}
    tags["registered.git.dirty"] = str(is_dirty()).lower()
    leftover = f"source_run_id = '{run_id}' and tags.`model.sha256` = '{digest}'"
    used = {logged_model(version) for version in all_versions(client).values()}
    for model in client.search_logged_models([run.info.experiment_id], leftover):
        if model.model_id not in used:
            client.delete_logged_model(model.model_id)
    model = client.create_logged_model(run.info.experiment_id, path.stem, run_id, tags)
    images = {"images": np.zeros((2, 28, 28), np.uint8)}
    answers = dict.fromkeys(("logits", "probabilities"), np.zeros((2, 10), np.float32))
    with TemporaryDirectory() as folder:
        mlflow.onnx.save_model(
            onnx.load(path), folder, mlflow_model=Model(run_id=run_id, model_id=model.model_id),
            signature=infer_signature(images, answers), input_example=images,
            save_as_external_data=False, onnx_execution_providers=["CPUExecutionProvider"],
            pip_requirements=[f"onnx=={onnx.__version__}", f"onnxruntime=={ort.__version__}"],
        )  # fmt: skip
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    if not client.search_registered_models(f"name = '{REGISTERED_MODEL}'"):
        client.create_registered_model(REGISTERED_MODEL)
    mlflow.set_tracking_uri(tracking_uri())  # an SQL store asks this one for the model's place
    at = model.model_uri
    return client.create_model_version(REGISTERED_MODEL, at, run_id, tags, model_id=model.model_id)


def settle(
    client: MlflowClient, version: ModelVersion, certificate: Path, tags: dict[str, str],
    alias: str, report: str,
) -> None:  # fmt: skip
    """Tag a version, which keeps the certificate, and its run; describe it; move an alias to it."""
    client.log_model_artifact(logged_model(version), str(certificate))
    for name, value in tags.items():
        client.set_tag(str(version.run_id), name, value)
        client.set_model_version_tag(REGISTERED_MODEL, version.version, name, value)
    client.update_model_version(REGISTERED_MODEL, version.version, report)
    move_alias(client, alias, version)
    challenger = version_named(client, "challenger")
    if alias == "champion" and challenger and challenger.version == version.version:
        client.delete_registered_model_alias(REGISTERED_MODEL, "challenger")


def tag_version(client: MlflowClient, version: ModelVersion, name: str, value: str) -> None:
    """Set a tag of a version."""
    client.set_model_version_tag(REGISTERED_MODEL, version.version, name, value)


def move_alias(client: MlflowClient, alias: str, version: ModelVersion) -> None:
    """Give a version the alias."""
    client.set_registered_model_alias(REGISTERED_MODEL, alias, version.version)


def download(uri: str | None, name: str = "") -> bytes:
    """Return a file that MLflow keeps, or the one of that name in a folder."""
    with TemporaryDirectory() as folder:
        path = download_artifacts(uri, dst_path=folder, tracking_uri=tracking_uri())
        return (Path(path) / name).read_bytes()


def main() -> None:
    """Record what was trained and say where to look."""
    try:
        for name, run_id in record_all(open_store()).items():
            print(f"{name}: MLflow run {run_id}")
    except STORE_ERRORS as error:
        sys.exit(
            f"error: MLflow at {shown_uri()} did not take the runs: {error}\n"
            "Nothing is lost: run `python -m pipeline.tracking` when it is back"
        )
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"compare them with `make ui`; the store is {shown_uri()}")


if __name__ == "__main__":
    main()
