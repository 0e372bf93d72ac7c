import json
import subprocess
from pathlib import Path

import pytest
from prefect.states import Completed, Failed

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import Epoch, write_history
from pipeline.core.params import load_params
from pipeline.core.provenance import Provenance
from pipeline.data.dataset import pinned_md5
from pipeline.train import flow

PARAMS = load_params().train
pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How each start of a trainer will end, by network; and nothing to compare."""
    statuses: dict[str, list[int]] = {key: [0] for key in NETWORKS}

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, statuses[command[-2]].pop(0))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(flow, "compare_networks", lambda **_options: Completed())
    return statuses


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what the flow writes."""
    monkeypatch.setattr(files, "ARTIFACTS", tmp_path)
    for name in ("METRICS", "LOSSES_FIGURE", "PROVENANCE"):
        monkeypatch.setattr(files, name, tmp_path / getattr(files, name).name)
    return tmp_path


def test_every_network_is_trained(statuses: dict[str, list[int]]) -> None:
    assert flow.train_networks(PARAMS, return_state=True).is_completed()
    assert statuses == {key: [] for key in NETWORKS}


def test_a_trainer_that_a_signal_ended_is_started_again(statuses: dict[str, list[int]]) -> None:
    statuses["simple_mlp"] = [-9, 0]
    assert flow.train_networks(PARAMS, return_state=True).is_completed()
    assert statuses == {key: [] for key in NETWORKS}


def test_a_trainer_that_failed_fails_the_flow_at_once(statuses: dict[str, list[int]]) -> None:
    statuses["batchnorm_mlp"] = [1, 0]
    state = flow.train_networks(PARAMS, return_state=True)
    assert state.is_failed()
    assert state.message == "the training of batchnorm_mlp failed, see above"
    assert statuses["batchnorm_mlp"] == [0]


def test_metrics_are_those_of_each_networks_last_epoch(artifacts: Path) -> None:
    for i, key in enumerate(NETWORKS):
        rows = [Epoch(1, 9.0, 9.0, 0.0, 9.0), Epoch(2, i + 0.1, i + 0.2, 0.3, 9.0)]
        write_history(files.history_path(key), rows)
    flow.compare_networks.fn()
    assert json.loads((artifacts / "metrics.json").read_text()) == {
        key: {"train_loss": i + 0.1, "test_loss": i + 0.2, "test_accuracy": 0.3}
        for i, key in enumerate(NETWORKS)
    }
    assert (artifacts / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_a_completed_flow_leaves_its_provenance(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "train_networks", lambda _params, **_options: Completed())
    flow.run()
    provenance = Provenance.read(artifacts / "provenance.json", "train")
    assert provenance.params == PARAMS.model_dump()
    assert provenance.data_md5 == pinned_md5()


def test_a_failed_flow_is_an_error_and_leaves_no_provenance(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Failed(message="the training of simple_mlp failed, see above")
    monkeypatch.setattr(flow, "train_networks", lambda _params, **_options: state)
    with pytest.raises(ValueError, match="the training of simple_mlp failed"):
        flow.run()
    assert not list(artifacts.iterdir())
