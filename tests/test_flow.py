import io
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from pipeline import flow
from pipeline.artifacts import KEYS


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with prefect_test_harness():
        yield


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How each start of a trainer will end, by network; and nothing to compare."""
    statuses: dict[str, list[int]] = {key: [0] for key in KEYS}

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, statuses[command[-1]].pop(0))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(flow, "compare_networks", lambda **_options: flow.Completed())
    return statuses


def test_both_networks_are_trained(statuses: dict[str, list[int]]) -> None:
    assert flow.train_networks(return_state=True).is_completed()
    assert statuses == {key: [] for key in KEYS}


def test_a_trainer_that_a_signal_ended_is_started_again(statuses: dict[str, list[int]]) -> None:
    statuses["simple_mlp"] = [-9, 0]
    assert flow.train_networks(return_state=True).is_completed()
    assert statuses == {key: [] for key in KEYS}


def test_a_trainer_that_gave_up_fails_the_flow_at_once(statuses: dict[str, list[int]]) -> None:
    statuses["batchnorm_mlp"] = [1, 0]
    state = flow.train_networks(return_state=True)
    assert state.is_failed()
    assert state.message == "the training of batchnorm_mlp gave up, see above"
    assert statuses["batchnorm_mlp"] == [0]


def test_the_promotions_report_is_an_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    for report in ("## Version 1 was judged champion", ""):  # the latter if promote failed
        monkeypatch.setattr("sys.stdin", io.StringIO(report))
        assert flow.show_promotion(return_state=True).is_completed() == bool(report)
    (artifact,) = httpx.post(f"{PREFECT_API_URL.value()}/artifacts/filter", json={}).json()
    assert (artifact["key"], artifact["type"]) == ("promotion", "markdown")
    assert artifact["data"] == "## Version 1 was judged champion"
