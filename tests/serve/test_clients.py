"""Third-party clients, unmodified, against the real server."""

import asyncio

import httpx
import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from tritonclient.http import InferRequestedOutput

from pipeline.core.inference import infer, json_request
from pipeline.data.load import Dataset

NAME = "batchnorm_mlp"
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised inside the clients
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def address(server: httpx.Client) -> str:
    return str(server.base_url).removeprefix("http://").rstrip("/")


def expected(server: httpx.Client, images: np.ndarray) -> np.ndarray:
    """The server's logits as JSON."""
    return infer(server, NAME, json_request(images))["logits"]


@pytest.mark.parametrize("raw_in", [True, False])
@pytest.mark.parametrize("raw_out", [True, False])
def test_tritonclient(
    server: httpx.Client, small_dataset: Dataset, raw_in: bool, raw_out: bool
) -> None:
    images = small_dataset.test_images[:5]
    with tritonclient.http.InferenceServerClient(address(server)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(NAME)
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        version = client.get_model_metadata(NAME)["versions"][0]
        assert client.is_model_ready(NAME, version)
        tensor = tritonclient.http.InferInput("images", images.shape, "UINT8")
        tensor.set_data_from_numpy(images, binary_data=raw_in)
        outputs = [InferRequestedOutput(name, binary_data=raw_out) for name in ("logits",)]
        result = client.infer(NAME, [tensor], version, outputs=outputs, request_id="7")
        assert result.get_response()["id"] == "7"
        assert np.array_equal(result.as_numpy("logits"), expected(server, images))
        assert result.as_numpy("probabilities") is None
        both = client.infer(NAME, [tensor])
        assert np.allclose(both.as_numpy("probabilities").sum(axis=1), 1, atol=1e-6)
        with pytest.raises(tritonclient.http.InferenceServerException, match="no model 'resnet'"):
            client.infer("resnet", [tensor])


@pytest.mark.parametrize("raw", [True, False])
def test_tritonclient_asyncio(server: httpx.Client, small_dataset: Dataset, raw: bool) -> None:
    images = small_dataset.test_images[:5]

    async def infer() -> np.ndarray:
        async with tritonclient.http.aio.InferenceServerClient(address(server)) as client:
            assert await client.is_server_ready()
            tensor = tritonclient.http.InferInput("images", images.shape, "UINT8")
            tensor.set_data_from_numpy(images, binary_data=raw)
            outputs = [InferRequestedOutput("logits", binary_data=raw)]
            return (await client.infer(NAME, [tensor], outputs=outputs)).as_numpy("logits")

    assert np.array_equal(asyncio.run(infer()), expected(server, images))


@pytest.mark.parametrize("raw", [True, False])
def test_kserve_client(server: httpx.Client, small_dataset: Dataset, raw: bool) -> None:
    images = small_dataset.test_images[:5]

    async def infer() -> np.ndarray:
        client = InferenceRESTClient(RESTConfig(protocol="v2", retries=1))
        base = str(server.base_url).rstrip("/")
        assert await client.is_server_live(base)
        assert await client.is_server_ready(base)
        assert await client.is_model_ready(base, NAME)
        tensor = InferInput("images", list(images.shape), "UINT8")
        tensor.set_data_from_numpy(images, binary_data=raw)
        response = await client.infer(base, InferRequest(NAME, [tensor]), model_name=NAME)
        await client.close()
        return response.outputs[0].as_numpy()

    assert np.array_equal(asyncio.run(infer()).reshape(-1, 10), expected(server, images))


@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("wanted", [None, "gzip", "deflate"])
def test_tritonclient_compresses(
    server: httpx.Client, small_dataset: Dataset, sent: str | None, wanted: str | None
) -> None:
    images = small_dataset.test_images[:64]
    tensor = tritonclient.http.InferInput("images", images.shape, "UINT8")
    tensor.set_data_from_numpy(images)
    with tritonclient.http.InferenceServerClient(address(server)) as client:
        result = client.infer(
            NAME,
            [tensor],
            request_compression_algorithm=sent,
            response_compression_algorithm=wanted,
        )
        assert np.array_equal(result.as_numpy("logits"), expected(server, images))


def test_tritonclient_gets_classes_configuration_and_index(
    server: httpx.Client, small_dataset: Dataset
) -> None:
    images = small_dataset.test_images[:2]
    tensor = tritonclient.http.InferInput("images", images.shape, "UINT8")
    tensor.set_data_from_numpy(images)
    best = expected(server, images).argmax(axis=1)
    with tritonclient.http.InferenceServerClient(address(server)) as client:
        classes = client.infer(NAME, [tensor], outputs=[InferRequestedOutput("logits", True, 3)])
        found = classes.as_numpy("logits")
        assert found.shape == (2, 3)
        assert [text.decode().split(":")[1:] for text in found[:, 0]] == [
            [f"{i}"] * 2 for i in best
        ]
        assert client.get_model_config(NAME)["max_batch_size"] == 1024
        assert [model["name"] for model in client.get_model_repository_index()] == [NAME]
