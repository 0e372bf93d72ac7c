"""The real `python -m serve`: its warnings, its log, and overload."""

import asyncio
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from serve.__main__ import check
from tests.serve.process import INFER, Record, raw_request, serving


def test_a_public_address_without_a_token_is_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVE_TOKEN", raising=False)
    for host in ("127.0.0.1", "::1", "localhost"):
        check(Namespace(workers=1, poll=None, host=host))
    assert not caplog.text
    check(Namespace(workers=1, poll=None, host="0.0.0.0"))  # noqa: S104
    assert "set SERVE_TOKEN" in caplog.text


@pytest.mark.parametrize(
    "options",
    [{"workers": 0}, {"workers": 1000}, {"poll": 0.0}, {"poll": float("nan")}, {"host": "nowhere"}],
)
def test_an_invalid_option_is_refused(options: dict[str, float | str]) -> None:
    with pytest.raises(ValueError, match=r"got|nowhere"):
        check(Namespace(**{"workers": 1, "poll": None, "host": "::1"} | options))


@pytest.mark.drill
@pytest.mark.parametrize("duration_s", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_overload_is_answered_or_refused_and_then_over(
    model: Path, duration_s: int, record_property: Record
) -> None:
    body, headers = raw_request(np.zeros((256, 28, 28), np.uint8))  # sixteen of them may wait
    statuses: Counter[int] = Counter()

    async def infer(client: httpx.AsyncClient, end: float) -> None:
        while time.monotonic() < end:
            statuses[(await client.post(INFER, content=body)).status_code] += 1

    async def overload(address: str) -> float:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(
            base_url=address, headers=headers, limits=limits, timeout=30
        ) as client:
            end = time.monotonic() + duration_s
            await asyncio.gather(*(infer(client, end) for _ in range(64)))
            start = time.monotonic()
            (await client.post(INFER, content=body)).raise_for_status()
            return time.monotonic() - start

    with serving(model) as (_, address):
        assert asyncio.run(overload(address)) < 1
    record_property("seen", f"{statuses[200]} answered, {statuses[503]} refused")
    assert set(statuses) <= {200, 503}
    assert min(statuses[200], statuses[503]) > 0
