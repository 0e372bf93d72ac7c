"""Each network is built and exported once per session."""

import onnx
import pytest
from torch import nn

from pipeline.export.graph import to_onnx
from tests.export.networks import BUILDERS, KNOWN, build


@pytest.fixture(scope="session", params=BUILDERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def known_name(name: str) -> str:
    if name not in KNOWN:
        pytest.skip(f"the tests do not know the structure of {name}")
    return name


@pytest.fixture(scope="session")
def any_network(name: str) -> nn.Module:
    return build(name)


@pytest.fixture(scope="session")
def any_model(name: str, any_network: nn.Module) -> onnx.ModelProto:
    return to_onnx(any_network, name, {"key": "value"})
