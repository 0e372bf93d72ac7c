"""The stores of a team: MLflow in PostgreSQL, its artifacts and the DVC remote on S3."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from mlflow import MlflowClient
from moto.server import ThreadedMotoServer

from models import NETWORKS
from pipeline.core.files import sha256
from tests.support import INITDB, Run, free_port

MODEL = "artifacts/export/batchnorm_mlp.onnx"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.services,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # boto3's and moto's own
]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The address of a database in a PostgreSQL server, which refuses to run as root."""
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder, port = Path(tempfile.mkdtemp(prefix="postgresql-")), free_port()
    shutil.chown(folder, user)
    tools, account = Path(str(INITDB)).parent, user if os.getuid() == 0 else None
    control: list[str | Path] = [tools / "pg_ctl", "-D", folder, "-w", "-l", folder / "log"]
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"

    def call(*command: str | Path) -> None:
        subprocess.run(command, user=account, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    call(tools / "initdb", "-D", folder, "-A", "trust", "-U", "mlflow")
    call(*control, "-o", options, "start")
    yield f"postgresql://mlflow:secret@127.0.0.1:{port}/postgres"
    call(*control, "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server with the buckets `mlflow` and `dvc`."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    buckets = boto3.client(
        "s3",
        "us-east-1",
        endpoint_url=address,
        aws_access_key_id="key",
        aws_secret_access_key="secret",  # noqa: S106
    )
    for name in ("mlflow", "dvc"):
        buckets.create_bucket(Bucket=name)
    yield address
    server.stop()


def test_a_team_works_on_postgresql_and_s3(
    run: Run, project: Path, postgresql: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    store = f"MLFLOW_S3_ENDPOINT_URL={s3} MLFLOW_TRACKING_URI={postgresql}"
    client = MlflowClient(postgresql)
    client.create_experiment("mnist-batchnorm", "s3://mlflow/artifacts")
    client.create_experiment("mnist-batchnorm-study", "s3://mlflow/study")

    run("rm -r mlflow.db mlartifacts")
    output = run(f"{store} dvc repro --force --single-item train").stdout
    output += run(f"{store} dvc repro promote").stdout
    assert "secret" not in output
    assert "version 1 was judged champion" in output
    assert not (project / "mlflow.db").exists()
    assert not (project / "mlartifacts").exists()
    assert {one.info.run_name for one in client.search_runs(["1"])} == set(NETWORKS)

    digest = sha256(project / MODEL)
    run(f"dvc remote add --default team s3://dvc && dvc remote modify team endpointurl {s3}")
    run("git add . && git commit -q -m team && dvc push -q")
    run("rm -rf data artifacts .dvc/cache && dvc pull -q --with-deps promote")
    assert sha256(project / MODEL) == digest
    output = run(f"{store} dvc repro promote").stdout
    assert output.count("Running stage") == 1
    assert "the chain is whole" in run(f"{store} python -m pipeline.trace champion").stdout

    gone = f"MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:{free_port()} AWS_MAX_ATTEMPTS=1"
    error = run(f"{gone} MLFLOW_TRACKING_URI={postgresql} dvc repro promote", 255).stdout
    assert "failed: the storage of its files failed: Could not connect" in error
    assert "Traceback" not in error
