"""Records both trainings in MLflow: `python -m pipeline.tracking`. All that knows MLflow.

Reads what the train stage wrote and makes one run a network, whole or not at all. The same weights
are the same run: recording them again changes nothing, so this can be run as often as one likes.
`python -m pipeline.tracking study` does so for the study, in an experiment of its own.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import accumulate

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.artifacts import (
    KEYS,
    LOSSES,
    PROJECT,
    ROOT,
    STUDY,
    VERDICTS,
    history_path,
    require,
    sha256,
    weights_path,
)
from pipeline.data import PIN
from pipeline.history import read_history
from pipeline.params import load_params

EXPERIMENT = "mnist-batchnorm"
STUDY_EXPERIMENT = "mnist-batchnorm-study"
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


def open_experiment(client: MlflowClient, name: str = EXPERIMENT) -> str:
    """Return the experiment's id, making the experiment where there is none."""
    experiment = client.get_experiment_by_name(name)
    if experiment:
        if experiment.lifecycle_stage == "deleted":  # in the UI: its name stays taken
            client.restore_experiment(experiment.experiment_id)
        return experiment.experiment_id
    if tracking_uri() == OWN_STORE:
        return client.create_experiment(name, (PROJECT / "mlartifacts").as_uri())
    return client.create_experiment(name)  # a server knows where its artifacts lie


def find_run(client: MlflowClient, experiment_id: str, tag: str, digest: str) -> str | None:
    """Return the id of the run of what has this digest, and delete what was cut short."""
    for run in client.search_runs([experiment_id], f"tags.`{tag}` = '{digest}'"):
        if run.info.status == "FINISHED":
            return run.info.run_id
        client.delete_run(run.info.run_id)
    return None


def record_run(client: MlflowClient, experiment_id: str, key: str) -> str:
    """Return the id of the run that made the network's weights, recording it if need be."""
    digest = sha256(require(weights_path(key), "train"))
    recorded = find_run(client, experiment_id, "weights.sha256", digest)
    if recorded:
        return recorded

    history_file = require(history_path(key), "train")
    history = read_history(history_file)
    start = history_file.stat().st_mtime - sum(row.seconds for row in history)
    start, *ends = accumulate((row.seconds for row in history), initial=start)
    tags = _tags("weights.sha256", digest)
    run = client.create_run(experiment_id, _milliseconds(start), tags, run_name=key)
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


def record_study(client: MlflowClient, experiment_id: str) -> str:
    """Return the id of the run that holds the study's verdicts, recording it if need be."""
    digest = sha256(require(VERDICTS, "study"))
    recorded = find_run(client, experiment_id, "verdicts.sha256", digest)
    if recorded:
        return recorded

    run = client.create_run(experiment_id, tags=_tags("verdicts.sha256", digest), run_name="study")
    run_id, now = run.info.run_id, run.info.start_time
    verdicts = json.loads(VERDICTS.read_text())
    metrics = [
        Metric(f"{claim}.{bound}", found[bound], now, 0)
        for claim, found in verdicts.items()
        for bound in ("mean", "low", "high")
    ]
    params = load_params().study.model_dump()
    params |= {f"{claim}.verdict": found["verdict"] for claim, found in verdicts.items()}
    listed = [Param(name, str(value)) for name, value in params.items()]
    client.log_batch(run_id, metrics, listed)
    client.log_artifacts(run_id, str(STUDY))
    client.set_terminated(run_id)
    return run_id


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _tags(content: str, digest: str) -> dict[str, str]:
    changes = _git("status", "--porcelain", "--", ":/", ":!dvc.lock")  # the lock follows the run
    return {
        content: digest,
        "data.md5": PIN,
        "mlflow.source.git.commit": _git("rev-parse", "HEAD"),
        "git.dirty": str(bool(changes)).lower(),
    }


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main(arguments: Sequence[str] = ()) -> None:
    """Record both networks, or the study, and say where to look."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tracking", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("train", "study"), default="train")
    what = parser.parse_args(arguments).what
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a new store's many migrations
    try:
        client = open_store()
        experiment_id = open_experiment(client)  # also for the study: it is to be number 1
        if what == "study":
            study_id = open_experiment(client, STUDY_EXPERIMENT)
            print(f"study: MLflow run {record_study(client, study_id)}")
        else:
            for key in KEYS:
                print(f"{key}: MLflow run {record_run(client, experiment_id, key)}")
    except (MlflowException, SQLAlchemyError) as error:
        command = " ".join(["python -m pipeline.tracking", *arguments])
        sys.exit(
            f"error: MLflow at {tracking_uri()} did not take the runs: {error}\n"
            f"Nothing is lost: run `{command}` when it is back"
        )
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    print(f"compare them with `make ui`; the store is {tracking_uri()}")


if __name__ == "__main__":
    main(sys.argv[1:])
