from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from pipeline.data import Mnist
from serve import app as app_module
from serve.app import create_app
from serve.engine import Engine

MODEL = "/v2/models/batchnorm_mlp"


@pytest.fixture
def client(model: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Engine(model)), raise_server_exceptions=False) as client:
        yield client


def ask(client: TestClient, images: np.ndarray, path: str = f"{MODEL}/infer") -> httpx2.Response:
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape}
    return client.post(path, json={"inputs": [tensor | {"data": images.tolist()}]})


def test_an_answer_is_the_engines(client: TestClient, model: Path, small_mnist: Mnist) -> None:
    images = small_mnist.test_images[:3]
    response = ask(client, images)
    assert response.status_code == 200
    tensors = Engine(model).infer(images)
    for output in response.json()["outputs"]:
        answered = np.array(output["data"], np.float32).reshape(output["shape"])
        assert np.array_equal(answered, tensors[output["name"]])


def test_server_and_model_describe_themselves(client: TestClient) -> None:
    assert client.get("/v2").json()["name"] == "mnist-batchnorm"
    metadata = client.get(MODEL).json()
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    assert [output["name"] for output in metadata["outputs"]] == ["logits", "probabilities"]
    (version,) = metadata["versions"]
    assert client.get(f"{MODEL}/versions/{version}").json() == metadata


@pytest.mark.parametrize(
    "path",
    ["/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/{{}}/ready"],
)
def test_health_is_200(client: TestClient, path: str) -> None:
    version = client.get(MODEL).json()["versions"][0]
    assert client.get(path.format(version)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models/resnet", 404),
        ("GET", f"{MODEL}/versions/1", 404),
        ("POST", "/v2/models/resnet/infer", 404),
        ("POST", f"{MODEL}/versions/1/infer", 404),
        ("GET", f"{MODEL}/infer", 405),
        ("POST", f"{MODEL}/infer", 400),
    ],
)
def test_an_error_is_one_sentence_of_json(
    client: TestClient, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert "Traceback" not in response.text


def test_a_body_over_the_limit_is_413(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, small_mnist: Mnist
) -> None:
    monkeypatch.setattr(app_module, "MAX_BODY_BYTES", 1000)
    response = ask(client, small_mnist.test_images[:1])
    assert response.status_code == 413
    assert "1000 bytes" in response.json()["error"]


def test_a_failure_inside_is_500_without_a_trace(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, small_mnist: Mnist
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("a secret path")

    monkeypatch.setattr(Engine, "infer", fail)
    response = ask(client, small_mnist.test_images[:1])
    assert (response.status_code, list(response.json())) == (500, ["error"])
    assert "secret" not in response.text
