"""Tests of how the flow ends when something is missing: in a sentence, the champion untouched."""

import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from models import BatchNormMLP, SimpleMLP
from pipeline.adapt import flow
from pipeline.adapt.candidate import adapt_network, build_adapted
from pipeline.adapt.traffic import read_sample
from pipeline.core import files
from pipeline.core.params import Recipe
from pipeline.data.load import Dataset
from pipeline.data.tensors import scale_pixels
from pipeline.tracking import registry
from pipeline.train.loop import train
from serve.model.engine import Engine
from tests.adapt.samples import blank_sample, make_sample, serve_by, set_adapt
from tests.support import write_below
from tests.zoo import ConvNet

URL = "http://127.0.0.1:9"


def statistics(network: nn.Module) -> list[float]:
    return network.get_buffer("bn1.running_mean").tolist()


TAGS = {"model.sha256": "1" * 64, "weights.sha256": "2" * 64, "data.md5": "3", "params.sha256": "4"}
VERSION: Any = SimpleNamespace(version="1", run_id="5", source="models:/m-1", tags=TAGS)


@pytest.fixture
def champion(network: BatchNormMLP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A champion in a store that does nothing."""
    write_below(tmp_path, monkeypatch)
    ancestor = SimpleNamespace(version=VERSION, network=network, judge=SimpleMLP().eval())
    monkeypatch.setattr(flow, "open_store", lambda: nullcontext(None))
    monkeypatch.setattr(flow, "last_adaptation", lambda _client: None)
    monkeypatch.setattr(flow, "adaptation_run", lambda *_: nullcontext("run"))
    monkeypatch.setattr(flow, "find_ancestor", lambda *_: ancestor)
    monkeypatch.setattr(registry, "find_alias", lambda *_: VERSION)
    monkeypatch.setattr(registry, "all_versions", lambda *_: {"1": VERSION})


def message() -> str:
    """Return the message of the flow's state."""
    return str(flow.adapt.fn(URL).message)


def test_without_a_champion_there_is_nothing_to_adapt(
    champion: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find_alias", lambda *_: None)
    assert message() == "there is no champion to adapt: run `make repro`"


def test_a_network_without_batch_normalization_has_nothing_to_re_estimate(
    champion: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ancestor = SimpleNamespace(version=VERSION, network=SimpleMLP(), judge=None)
    monkeypatch.setattr(flow, "find_ancestor", lambda *_: ancestor)
    assert message() == "SimpleMLP has no running statistics to re-estimate"


def test_no_network_judges_itself(champion: None, monkeypatch: pytest.MonkeyPatch) -> None:
    set_adapt(monkeypatch, flow, judge="batchnorm_mlp")
    assert "adapt.judge must be another network than export.network" in message()


def test_while_another_clone_adapts_the_champion_this_one_does_not(
    champion: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = SimpleNamespace(status="RUNNING", start_time=time.time() * 1000)
    monkeypatch.setattr(flow, "last_adaptation", lambda _client: SimpleNamespace(info=info))
    assert message() == "another command adapts the champion"


@pytest.mark.parametrize("error", [httpx.ReadTimeout("timed out"), httpx.ConnectError("refused")])
def test_a_server_that_hangs_or_is_away_is_an_error(
    error: httpx.HTTPError, champion: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        raise error

    serve_by(respond, monkeypatch)
    assert message() == f"{URL} failed: {error}"


def test_a_server_whose_memory_is_full_is_an_error(
    champion: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_by(lambda _: httpx.Response(503, json={"error": "too much is waiting"}), monkeypatch)
    assert "503 Service Unavailable" in message()


def test_a_server_of_another_model_is_an_error(
    champion: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_by(lambda _: httpx.Response(200, content=blank_sample(3)), monkeypatch)
    assert f"{URL} serves version 000000000000, which is not the champion" in message()


def test_what_another_command_has_just_done_is_not_done_again(
    champion: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = SimpleNamespace(status="FINISHED", end_time=4e12)
    monkeypatch.setattr(flow, "last_adaptation", lambda _client: SimpleNamespace(info=info))
    assert message() == "another command has adapted the champion meanwhile"


def test_a_store_that_is_away_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_below(tmp_path, monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URL)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert message().startswith(f"MLflow at {URL} failed")


def test_the_same_weights_and_sample_give_the_same_file_again(
    network: BatchNormMLP, small_dataset: Dataset
) -> None:
    images = small_dataset.test_images // 2 + 100
    sample = read_sample(make_sample(images, np.zeros((len(images), 10))))
    adapted = adapt_network(network, sample)
    first = build_adapted(adapted, VERSION, sample)
    again = build_adapted(adapt_network(network, sample), VERSION, sample)
    assert first == again
    engine = Engine("adapted", first)
    assert engine.metadata["sample.sha256"] == files.sha256(sample.content)
    assert engine.metadata["weights.sha256"] == TAGS["weights.sha256"]
    assert engine.reference
    assert statistics(adapted) != statistics(network)


def test_a_convolutional_network_is_adapted_right(
    small_dataset: Dataset, train_params: Recipe
) -> None:
    torch.manual_seed(0)
    network = ConvNet()
    recipe = train_params.model_copy(update={"epochs": 8, "lr": 0.1})
    *_, last = train(network, small_dataset, recipe)
    bright = small_dataset.test_images // 2 + 100
    sample = read_sample(make_sample(bright, np.zeros((len(bright), 10))))
    adapted = adapt_network(network, sample)
    x = scale_pixels(bright)
    session = onnxruntime.InferenceSession(build_adapted(adapted, VERSION, sample))
    (served,) = session.run(["logits"], {"images": bright})
    _, rows = sample.halves()
    before, after = (
        float(np.equal(logits.argmax(1), small_dataset.test_labels)[rows].mean())
        for logits in (network.eval()(x).detach().numpy(), served)
    )
    assert before < last.test_accuracy - 0.2
    assert after > last.test_accuracy - 0.05
    expected = adapted(x).detach().numpy()
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-4)
