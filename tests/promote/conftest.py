"""Promotes models that are not trained, in a store of the test's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import onnx
import pytest
from mlflow import MlflowClient

from models import NETWORKS
from pipeline.core import files
from pipeline.data.load import Dataset
from pipeline.promote import promotion
from pipeline.tracking.store import open_experiment
from tests.promote.records import CERTIFICATE, METRICS, PARAMS, TAGS
from tests.promote.versions import Promote, set_min_accuracy
from tests.support import empty_store, write_below


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    (tmp_path / "store.db").write_bytes(empty_store())
    store = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    write_below(tmp_path, monkeypatch)
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    yield MlflowClient(store)
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


@pytest.fixture
def promote(
    client: MlflowClient,
    exported: bytes,
    small_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Promote:
    """Promote the same network, exported with a note that makes it another file."""
    run_id = client.create_run(open_experiment(client, "mnist-batchnorm"), tags=TAGS).info.run_id
    for name, value in PARAMS.items():
        client.log_param(run_id, name, value)
    for name, metric in METRICS.items():
        client.log_metric(run_id, name, metric, step=2)
    client.set_terminated(run_id)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    files.write_json(files.CERTIFICATE_METRICS, {"passed": True, "flipped": 0})
    files.write_json(files.ACCURACY, {"batchnorm_mlp": METRICS["test_accuracy"]})
    for key in NETWORKS:
        files.write_atomically(files.weights_path(key), key.encode())
    monkeypatch.setattr(promotion, "load_dataset", lambda: small_dataset)
    monkeypatch.setattr(promotion, "record_files", lambda _client: {"batchnorm_mlp": run_id})
    set_min_accuracy(monkeypatch, 0)

    def promote(note: str) -> dict[str, Any]:
        model = onnx.load_from_string(exported)
        model.doc_string = note
        content = model.SerializeToString(deterministic=True)
        files.write_atomically(files.model_path("batchnorm_mlp"), content)
        certificate = CERTIFICATE | {"model.sha256": files.sha256(content)}
        files.write_json(files.CERTIFICATE, certificate)
        promotion.promote()
        return files.read_json(files.PROMOTION, "promote")

    return promote
