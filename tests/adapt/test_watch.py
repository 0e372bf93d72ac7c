"""Tests of when an alarm starts an adaptation."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from pipeline.adapt import watch
from pipeline.tracking import adaptations, registry, store
from tests.adapt.samples import set_adapt

URL = "http://127.0.0.1:9"


def due(
    patch: pytest.MonkeyPatch,
    alarm: float | None,
    began: float | None,
    status: str = "FINISHED",
    win: object = None,
    **tags: str,
) -> bool:
    """Return whether an adaptation is due; the times are seconds ago, the cooldown 100 s, and the
    champion is version 1."""
    now = time.time()
    info = SimpleNamespace(start_time=(now - (began or 0)) * 1000, status=status)
    data = SimpleNamespace(tags={"champion": "1", "verdict": "none"} | tags)
    last = None if began is None else SimpleNamespace(info=info, data=data)
    patch.setattr(watch, "last_alarm", lambda _url: None if alarm is None else now - alarm)
    patch.setattr(store, "open_store", lambda: nullcontext(None))
    patch.setattr(registry, "find_alias", lambda *_: SimpleNamespace(version=1))
    won = last and status == "FINISHED" and last.data.tags["verdict"] != "none"
    patch.setattr(adaptations, "last_adaptation", lambda _client: last)
    patch.setattr(adaptations, "last_win", lambda _client: win or (last if won else None))
    for module in (watch, adaptations):
        set_adapt(patch, module, cooldown_s=100, wait_s=600)
    return watch.is_due(URL)


def test_an_alarm_starts_the_first_adaptation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not due(monkeypatch, alarm=None, began=None)
    assert due(monkeypatch, alarm=1, began=None)


def test_an_alarm_before_the_last_adaptation_began_starts_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not due(monkeypatch, alarm=300, began=200)
    assert due(monkeypatch, alarm=150, began=200)


def test_an_alarm_within_the_cooldown_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not due(monkeypatch, alarm=10, began=90)
    assert due(monkeypatch, alarm=10, began=110)


def test_an_alarm_while_an_adaptation_runs_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not due(monkeypatch, alarm=10, began=690, status="RUNNING")
    assert due(monkeypatch, alarm=10, began=200, status="FAILED")


def test_a_run_of_another_clone_that_was_killed_does_not_block_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert due(monkeypatch, alarm=10, began=710, status="RUNNING")


def test_while_a_winner_waits_to_be_made_champion_no_alarm_starts_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not due(monkeypatch, alarm=10, began=200, verdict="re-estimated")
    assert due(monkeypatch, alarm=10, began=200, verdict="re-estimated", champion="0")


def test_a_later_adaptation_that_was_refused_does_not_end_this_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    win = SimpleNamespace(data=SimpleNamespace(tags={"champion": "1"}))
    assert not due(monkeypatch, alarm=10, began=200, win=win)
    assert not due(monkeypatch, alarm=10, began=200, status="FAILED", win=win)


def test_a_server_that_is_away_is_reported_once_and_watched_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = ConnectionError("away")
    answers: Iterator[bool | BaseException] = iter([away, away, True, KeyboardInterrupt()])
    started: list[list[str]] = []

    def is_due(_url: str) -> bool:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(watch, "is_due", is_due)

    def run(command: list[str], **_: object) -> SimpleNamespace:
        started.append(command[1:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # of the tests' own process
    with pytest.raises(KeyboardInterrupt):
        watch.watch(URL, 0.01)
    assert started == [["-m", "pipeline.adapt", URL, "--fresh"]]
    assert capsys.readouterr().err == "error: away; looking again every 0.01 s\n"


def test_an_adaptation_that_fails_is_tried_again_after_the_cooldown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt

    set_adapt(monkeypatch, watch, cooldown_s=100)
    monkeypatch.setattr(watch, "is_due", lambda _url: True)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: SimpleNamespace(returncode=1))
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # of the tests' own process
    with pytest.raises(KeyboardInterrupt):
        watch.watch(URL, 1)
    assert slept == [100, 1]


def test_the_scheduled_watch_looks_at_the_server_that_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(watch, "is_due", lambda url: asked.append(url))
    monkeypatch.delenv("SERVE_URL", raising=False)
    assert "SERVE_URL is not set" in str(watch.check.fn().message)
    monkeypatch.setenv("SERVE_URL", URL)
    assert f"no new alarm at {URL}" in str(watch.check.fn().message)
    assert asked == [URL]
