import asyncio
import json
import re
from pathlib import Path
from unittest.mock import Mock

import httpx
import numpy as np
import pytest

from pipeline.core.files import ROOT
from pipeline.core.inference import json_request
from pipeline.data.load import Dataset
from serve.http.access import Access
from serve.http.app import App
from serve.model.engine import Engine
from serve.model.served import ServedModels

MODEL = "/v2/models/batchnorm_mlp"


def infer(client: httpx.Client, images: np.ndarray, path: str = f"{MODEL}/infer") -> httpx.Response:
    body, headers = json_request(images)
    return client.post(path, content=body, headers=headers)


def test_a_response_has_the_engines_outputs(
    server: httpx.Client, model: Path, small_dataset: Dataset
) -> None:
    images = small_dataset.test_images[:3]
    response = infer(server, images)
    assert response.status_code == 200
    tensors = Engine.read(model).infer({"images": images})
    for output in response.json()["outputs"]:
        values = np.array(output["data"], np.float32).reshape(output["shape"])
        assert np.array_equal(values, tensors[output["name"]])


def test_server_and_model_describe_themselves(server: httpx.Client, model: Path) -> None:
    extensions = ["binary_tensor_data", "classification", "model_configuration"]
    assert server.get("/v2").json()["extensions"] == extensions
    metadata = server.get(MODEL).json()
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    assert [output["name"] for output in metadata["outputs"]] == ["logits", "probabilities"]
    labels = json.loads(metadata["parameters"]["labels"])
    assert labels["probabilities"] == list("0123456789")
    assert metadata["versions"] == [Engine.read(model).version]
    assert server.get(f"{MODEL}/versions/{metadata['versions'][0]}").json() == metadata


def test_the_health_routes_report_live_and_ready(server: httpx.Client, model: Path) -> None:
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"live": True, "ready": True}
    for path in (f"{MODEL}/ready", f"{MODEL}/versions/{Engine.read(model).version}/ready"):
        assert server.get(path).json() == {"name": "batchnorm_mlp", "ready": True}


def test_many_health_checks_at_once_run_one_self_test(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.read(model)
    app = App(ServedModels([engine]), Access(), start=lambda: None)

    async def check() -> set[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            checks = [client.get(path) for path in ("/v2/health/ready", "/v2/health/live") * 20]
            return {response.status_code for response in await asyncio.gather(*checks)}

    monkeypatch.setattr(engine, "infer", Mock(wraps=engine.infer))
    assert asyncio.run(check()) == {200}
    assert engine.infer.call_count == 1  # type: ignore[attr-defined]


def test_readiness_is_503_while_the_model_fails(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.read(model)
    app = App(ServedModels([engine]), Access(), start=lambda: None)
    paths = ("/v2/health/ready", f"{MODEL}/ready")

    async def statuses() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [(await client.get(path)).status_code for path in paths]

    monkeypatch.setattr("serve.model.served.TEST_S", 0)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "infer", lambda _inputs: 1 / 0)
        assert asyncio.run(statuses()) == [503, 503]
    assert asyncio.run(statuses()) == [200, 200]


def test_an_error_is_one_sentence_of_json(server: httpx.Client) -> None:
    for method, path, status in [
        ("GET", "/nothing", 404),
        ("GET", "/page/../app.py", 404),
        ("GET", "/v2/models/resnet", 404),
        ("GET", f"{MODEL}/versions/1", 404),
        ("POST", "/v2/models/resnet/infer", 404),
        ("POST", f"{MODEL}/versions/1/infer", 404),
        ("GET", f"{MODEL}/infer", 405),
        ("POST", f"{MODEL}/infer", 400),
    ]:
        response = server.request(method, path)
        assert response.status_code == status, path
        assert list(response.json()) == ["error"]
        assert "Traceback" not in response.text


def test_metrics_count_requests_rows_and_classes_of_a_model(
    new_server: httpx.Client, small_dataset: Dataset
) -> None:
    infer(new_server, small_dataset.test_images[:256])
    infer(new_server, small_dataset.test_images[:1], path="/v2/models/resnet/infer")
    text = new_server.get("/metrics").text
    assert 'inference_latency_seconds_count{model="batchnorm_mlp",status="200"} 1.0' in text
    assert 'inference_latency_seconds_count{model="",status="404"} 1.0' in text  # not of its name
    assert 'inference_batch_rows_sum{model="batchnorm_mlp"} 256.0' in text
    assert 'inference_drift_rank{model="batchnorm_mlp"} 0.' in text
    pattern = r'^inference_predictions_total\{label="(\d)",model="batchnorm_mlp"\} (.*)$'
    predictions = dict(re.findall(pattern, text, re.MULTILINE))
    assert list(predictions) == list("0123456789")
    assert sum(map(float, predictions.values())) == 256


def test_the_documents_table_has_every_metric(server: httpx.Client) -> None:
    exported = re.findall(r"^# TYPE (\w+) (\w+)$", server.get("/metrics").text, re.MULTILINE)
    table = (ROOT / "docs/operating.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.MULTILINE)
    assert set(documented) == {pair for pair in exported if not pair[0].endswith("_created")}


def test_the_openapi_document_has_every_route(server: httpx.Client) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    assert {f"{MODEL.replace('batchnorm_mlp', '{name}')}/infer", "/v2", "/metrics"} <= set(paths)


@pytest.mark.parametrize("path", ["/", "/style.css", "/page.js"])
def test_the_page_is_served(server: httpx.Client, path: str) -> None:
    response = server.get(path)
    assert response.status_code == 200
    assert "{{" not in response.text  # all is filled in
