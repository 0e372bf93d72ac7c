"""Records both trainings in MLflow: `python -m pipeline.tracking`. All that knows MLflow.

Reads what the train stage wrote and makes one run a network, whole or not at all. The same weights
are the same run: recording them again changes nothing, so this can be run as often as one likes.
"""

import logging
import os
import subprocess
import sys
from itertools import accumulate
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.artifacts import (
    KEYS,
    LOSSES,
    PROJECT,
    ROOT,
    history_path,
    require,
    sha256,
    weights_path,
)
from pipeline.data import PIN
from pipeline.history import read_history
from pipeline.params import load_params

EXPERIMENT = "mnist-batchnorm"
DATABASE = PROJECT / "mlflow.db"
OWN_STORE = f"sqlite:///{DATABASE}"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or else the address of the project's own SQLite store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or OWN_STORE


def open_store() -> MlflowClient:
    """Return a client of the store; a new SQLite store gets its name only when it is whole."""
    if tracking_uri() == OWN_STORE and not DATABASE.exists():
        part = DATABASE.with_name(DATABASE.name + ".part")
        part.unlink(missing_ok=True)
        MlflowClient(f"sqlite:///{part}")  # makes the tables
        part.replace(DATABASE)
    return MlflowClient(tracking_uri())


def open_experiment(client: MlflowClient) -> str:
    """Return the experiment's id, making the experiment where there is none."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment:
        if experiment.lifecycle_stage == "deleted":  # in the UI: its name stays taken
            client.restore_experiment(experiment.experiment_id)
        return experiment.experiment_id
    if tracking_uri() == OWN_STORE:
        return client.create_experiment(EXPERIMENT, (PROJECT / "mlartifacts").as_uri())
    return client.create_experiment(EXPERIMENT)  # a server knows where its artifacts lie


def record_run(client: MlflowClient, experiment_id: str, key: str) -> str:
    """Return the id of the run that made the network's weights, recording it if need be."""
    digest = sha256(require(weights_path(key), "train"))
    for run in client.search_runs([experiment_id], f"tags.`weights.sha256` = '{digest}'"):
        if run.info.status == "FINISHED":
            return run.info.run_id
        client.delete_run(run.info.run_id)  # its recording was cut short

    history_file = require(history_path(key), "train")
    history = read_history(history_file)
    start = history_file.stat().st_mtime - sum(row.seconds for row in history)
    start, *ends = accumulate((row.seconds for row in history), initial=start)
    run = client.create_run(experiment_id, _milliseconds(start), _tags(digest), run_name=key)
    run_id = run.info.run_id
    metrics = [
        Metric(name, getattr(row, name), _milliseconds(end), row.epoch)
        for row, end in zip(history, ends, strict=True)
        for name in ("train_loss", "test_loss", "test_accuracy", "seconds")
    ]
    params = {"network": key, **load_params().train.model_dump()}
    client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])
    for i in range(0, len(metrics), 1000):  # a batch holds at most 1000
        client.log_batch(run_id, metrics[i : i + 1000])
    client.log_artifact(run_id, str(require(LOSSES, "train")))
    client.set_terminated(run_id, end_time=_milliseconds(ends[-1]))
    return run_id


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _tags(weights_sha256: str) -> dict[str, str]:
    return {
        "weights.sha256": weights_sha256,
        "data.md5": PIN,
        "mlflow.source.git.commit": _git("rev-parse", "HEAD"),
        "git.dirty": str(_is_dirty()).lower(),
    }


def _is_dirty() -> bool:
    # Against a fresh index: git's own goes by size and time, which a quick change may leave alike.
    with TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        _git("read-tree", "HEAD", **index)
        changes = _git("status", "--porcelain", "--", ":/", ":!dvc.lock", **index)
    return bool(changes)  # dvc.lock is left out, since it follows the run


def _git(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=ROOT, env=os.environ | environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def main() -> None:
    """Record both networks and say where to look."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a new store's many migrations
    try:
        client = open_store()
        experiment_id = open_experiment(client)
        for key in KEYS:
            print(f"{key}: MLflow run {record_run(client, experiment_id, key)}")
    except (MlflowException, SQLAlchemyError) as error:
        sys.exit(
            f"error: MLflow at {tracking_uri()} did not take the runs: {error}\n"
            "Nothing is lost: run `python -m pipeline.tracking` when it is back"
        )
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    print(f"compare them with `make ui`; the store is {tracking_uri()}")


if __name__ == "__main__":
    main()
