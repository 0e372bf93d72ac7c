"""A client that openapi-python-client generates from the server's OpenAPI document."""

import json
import re
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest

from pipeline.data.load import Dataset
from tests.support import install

CALL = """
import json, sys
from client import Client
from client.api.default import infer_v2_models_name_infer_post as infer
from client.models import InferenceRequest, InputTensor
pixels = json.load(sys.stdin)
tensor = InputTensor(name="images", datatype="UINT8", shape=[1, 28, 28], data=pixels)
body = InferenceRequest(inputs=[tensor])
response = infer.sync("batchnorm_mlp", client=Client(base_url=sys.argv[1]), body=body)
print(json.dumps(response.to_dict()["outputs"]))
"""


@pytest.mark.slow
def test_a_generated_client_has_all_routes_and_runs_the_model(
    server: httpx.Client, small_dataset: Dataset, tmp_path: Path
) -> None:
    tools = install(tmp_path / "environment", "openapi-python-client")
    document = server.get("/openapi.json").json()
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    generate = ["generate", "--path", "openapi.json", "--output-path", "client", "--meta", "none"]
    command = [str(tools / "openapi-python-client"), *generate, "--fail-on-warning"]
    subprocess.run(command, cwd=tmp_path, check=True)
    routes = [route for methods in document["paths"].values() for route in methods.values()]
    modules = [path.stem for path in (tmp_path / "client/api/default").glob("*.py")]
    assert set(modules) - {"__init__"} == {
        re.sub("_+", "_", route["operationId"]) for route in routes
    }

    image = small_dataset.test_images[0]
    run = [str(tools / "python"), "-c", CALL, str(server.base_url)]
    pixels = json.dumps(image.ravel().tolist())
    found = json.loads(subprocess.check_output(run, input=pixels, text=True, cwd=tmp_path))
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": [image.tolist()]}
    expected = server.post("/v2/models/batchnorm_mlp/infer", json={"inputs": [tensor]}).json()
    for ours, theirs in zip(expected["outputs"], found, strict=True):
        assert np.array_equal(ours["data"], theirs["data"])


def test_the_document_says_what_is_sent(server: httpx.Client) -> None:
    document = server.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for route in methods.values():
            assert "422" not in route["responses"]
            assert "401" in route["responses"]
            assert route["security"] == [{"token": []}, {}], path
    assert document["components"]["schemas"]["InferenceRequest"]["required"] == ["inputs"]
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert set(infer["responses"]) > {"200", "400", "404", "408", "413", "415", "500", "503"}
    assert set(infer["responses"]["200"]["content"]) == {
        "application/json",
        "application/octet-stream",
    }
    assert "Inference-Header-Content-Length" in infer["description"]
