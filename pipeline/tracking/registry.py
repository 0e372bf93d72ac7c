"""Registers models as versions in MLflow, finds versions, and moves their aliases."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.core.provenance import git, is_dirty
from pipeline.data.dataset import CLASSES, IMAGE_SHAPE, NAME
from pipeline.tracking.metrics import read_metrics
from pipeline.tracking.runs import CLONE, data_sets
from pipeline.tracking.store import (
    artifact_storage,
    download,
    insert_or_update,
    open_experiment,
    tracking_uri,
    unless_it_exists,
)

# Tags of an adapted version: the number of the trained version, and the id of the adaptation's run.
ADAPTED_FROM, ADAPTED_IN = "adapted.from", "adapted.in"


def registered_name() -> str:
    """Return the name of the registered model."""
    return load_params().tracking.registered_model


def find_version(
    client: MlflowClient, model_sha256: str, run_id: str | None = None
) -> ModelVersion | None:
    """Return the newest version, of that run if it is given, of the file whose SHA-256 starts with
    these digits."""
    same = f"name = '{registered_name()}' and tags.`model.sha256` LIKE '{model_sha256}%'"
    same += f" and run_id = '{run_id}'" if run_id else ""
    found = client.search_model_versions(same, order_by=["version_number DESC"])
    return found[0] if found else None


def find_alias(client: MlflowClient, alias: str) -> ModelVersion | None:
    """Return the version that has the alias."""
    models = client.search_registered_models(f"name = '{registered_name()}'")
    number = models[0].aliases.get(alias) if models else None
    return client.get_model_version(registered_name(), number) if number else None


def all_versions(client: MlflowClient) -> dict[str, ModelVersion]:
    """Return every version by its number."""
    found = client.search_model_versions(f"name = '{registered_name()}'", max_results=10_000)
    return {str(version.version): version for version in found}


def best_first(client: MlflowClient, versions: list[ModelVersion], md5: str) -> list[ModelVersion]:
    """Return the versions with a recorded accuracy on the test images of that data, best first."""
    images = {"dataset_name": f"{NAME} test", "dataset_digest": md5}
    order = {"field_name": "metrics.test_accuracy", "ascending": False, **images}
    experiment_id = open_experiment(client, load_params().tracking.experiment)
    found = client.search_logged_models(
        [experiment_id], "metrics.test_accuracy >= 0", [images], 10_000, [order]
    )
    by_model = {logged_model_id(version): version for version in versions}
    return [by_model[model.model_id] for model in found if model.model_id in by_model]


def registered_file(version: ModelVersion) -> bytes | None:
    """Return the version's ONNX file as the registry has it, or None if it is lost."""
    return download(version.source, "model.onnx")  # MLflow's name for it


def logged_model_id(version: ModelVersion) -> str:
    """Return the id of the logged model that holds the version's files."""
    return str(version.source).removeprefix("models:/")  # its field model_id may be empty


def register(client: MlflowClient, run_id: str, path: Path, digest: str) -> ModelVersion:
    """Log a model file with a run, and register it as the next version."""
    import mlflow.onnx  # which takes seconds, like ONNX Runtime
    import onnx
    import onnxruntime as ort
    from mlflow.models import Model, infer_signature

    run = client.get_run(run_id)
    others = ("mlflow.run", "recorded.", "execution.", "model.", "certificate.")  # not the model's
    tags = {name: run.data.tags[name] for name in run.data.tags if not name.startswith(others)}
    tags |= {"model.sha256": digest, "registered.git.commit": git("rev-parse", "HEAD")}
    tags["registered.git.dirty"] = str(is_dirty()).lower()
    images = {"images": np.zeros((2, *IMAGE_SHAPE), np.uint8)}
    outputs = dict.fromkeys(("logits", "probabilities"), np.zeros((2, CLASSES), np.float32))
    name = run.data.params["network"]
    delete_abandoned(client, run.info.experiment_id, name)
    model = client.create_logged_model(
        run.info.experiment_id, name, run_id, tags | {"recorded.in": CLONE}, run.data.params, "onnx"
    )
    mlflow.set_tracking_uri(tracking_uri())  # which Model.log uses
    with artifact_storage():
        Model.log(
            None,
            mlflow.onnx,
            name=name,
            run_id=run_id,
            model_id=model.model_id,
            onnx_model=onnx.load(path),
            signature=infer_signature(images, outputs),
            input_example=images,
            save_as_external_data=False,
            onnx_execution_providers=["CPUExecutionProvider"],
            pip_requirements=[f"onnx=={onnx.__version__}", f"onnxruntime=={ort.__version__}"],
        )
    registered = registered_name()
    with unless_it_exists():
        client.create_registered_model(registered, description=f"{NAME} classifiers as ONNX files")
    version = client.create_model_version(
        registered, model.model_uri, run_id, tags, model_id=model.model_id
    )
    link = json.dumps([{"name": registered, "version": str(version.version)}])
    client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: link})
    return version


def delete_abandoned(client: MlflowClient, experiment_id: str, name: str) -> None:
    """Delete the logged models that this clone, which registers one at a time, left unfinished."""
    for model in client.search_logged_models([experiment_id], f"name = '{name}'"):
        if model.status == LoggedModelStatus.PENDING and model.tags.get("recorded.in") == CLONE:
            client.delete_logged_model(model.model_id)


def evaluate(client: MlflowClient, version: ModelVersion) -> None:
    """Log the last loss and accuracy of the version's run on the test images as the version's."""
    run = client.get_run(str(version.run_id))
    (data,) = (d for d in data_sets(run.data.tags["data.md5"]) if d.dataset.name == f"{NAME} test")
    own = (logged_model_id(version), data.dataset.name, data.dataset.digest, run.info.run_id)
    there = {m.key for m in client.get_logged_model(own[0]).metrics or ()}
    names = [name for name in ("test_loss", "test_accuracy") if name not in there]
    points = [read_metrics(client, run.info.run_id, [name])[-1] for name in names]
    client.log_batch(run.info.run_id, [Metric(*point, *own) for point in points])


def describe(client: MlflowClient, version: ModelVersion, tags: dict[str, str], text: str) -> None:
    """Tag a version, and describe it in Markdown."""
    for name, value in tags.items():
        tag_version(client, version, name, value)
    client.update_model_version(registered_name(), version.version, text)


def tag_run(client: MlflowClient, run_id: str, tags: dict[str, str]) -> None:
    """Set tags of a run."""
    for name, value in tags.items():
        insert_or_update(client.set_tag, run_id, name, value)


def add_file(client: MlflowClient, version: ModelVersion, name: str, content: bytes) -> None:
    """Add a file to a version's files, and tag the version with its SHA-256."""
    with artifact_storage(), TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        client.log_model_artifact(logged_model_id(version), str(path))
    tag_version(client, version, digest_tag(name), files.sha256(content))


def digest_tag(name: str) -> str:
    """Return the version's tag that has the SHA-256 of a file."""
    return f"{Path(name).stem}.sha256"


def tag_version(client: MlflowClient, version: ModelVersion, name: str, value: str) -> None:
    """Set a tag of a version."""
    tag = client.set_model_version_tag
    insert_or_update(tag, registered_name(), version.version, name, value)


def move_alias(client: MlflowClient, alias: str, number: str) -> None:
    """Give the alias to the version of that number."""
    insert_or_update(client.set_registered_model_alias, registered_name(), alias, number)
