from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.tracking.adaptations import (
    NONE,
    adaptation_run,
    last_adaptation,
    last_win,
    may_run,
    record_verdict,
)
from tests.support import empty_store, write_below


def adapt(client: MlflowClient, verdict: str, error: type[Exception] | None = None) -> str:
    """Record an adaptation, which may end by an error, and return the id of its run."""
    champion: Any = SimpleNamespace(version="1", run_id="0")
    with suppress(ValueError), adaptation_run(client, champion) as run_id:
        record_verdict(client, run_id, verdict, "")
        if error:
            raise error
    return run_id


def test_the_last_win_is_found_behind_refusals_and_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_below(tmp_path, monkeypatch)
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert not last_win(client)
    adapt(client, "re-estimated")
    won = adapt(client, "trained")
    adapt(client, NONE)
    failed = adapt(client, "re-estimated", ValueError)
    win, last = last_win(client), last_adaptation(client)
    assert win
    assert last
    assert (win.info.run_id, last.info.run_id) == (won, failed)
    assert not may_run(last)
