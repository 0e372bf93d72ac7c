from pathlib import Path

import httpx
import numpy as np
import pytest

from pipeline.core.inference import ENCODINGS, infer, json_request
from pipeline.data.load import Dataset
from serve.model.engine import Engine


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gets_the_outputs_of_the_engine(
    encoding: str, server: httpx.Client, model: Path, small_dataset: Dataset
) -> None:
    images = small_dataset.test_images[:3]
    outputs = infer(server, "batchnorm_mlp", ENCODINGS[encoding](images))
    assert list(outputs) == ["logits", "probabilities"]
    for name, values in Engine.read(model).infer({"images": images}).items():
        if name in outputs:
            assert outputs[name].dtype == np.float32
            assert np.array_equal(outputs[name], values)


def test_an_error_of_the_server_is_raised(server: httpx.Client) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        infer(server, "unknown", json_request(np.zeros((1, 28, 28), np.uint8)))
