"""The real `python -m serve`: its warnings, its log, and overload."""

import asyncio
import time
from argparse import Namespace
from collections import Counter

import httpx
import numpy as np
import pytest

from serve.__main__ import check
from tests.serve.load import Served, load
from tests.serve.other_models import request
from tests.serve.process import Record, raw_request, serving

ROWS = np.ones((1024, 3), np.float32)
LARGE = {  # requests of which at most sixteen, or four, may wait
    "batchnorm_mlp": raw_request(np.zeros((256, 28, 28), np.uint8)),
    "two_inputs": request({"a": ROWS, "b": ROWS}, binary=True),
}


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


@pytest.mark.slow
@pytest.mark.parametrize("duration_s", [3, 30])
@pytest.mark.parametrize("name", ["batchnorm_mlp", "two_inputs"])
def test_overload_of_a_model_is_answered_or_refused_and_fails_no_request_of_another(
    several: list[Served], name: str, duration_s: int, record_property: Record
) -> None:
    (model,) = [model for model in several if model.name == name]
    others = [other for other in several if other is not model]
    body, headers = LARGE[name]
    statuses: Counter[int] = Counter()

    async def infer(client: httpx.AsyncClient, end: float) -> None:
        while time.monotonic() < end:
            statuses[(await client.post(model.infer, content=body)).status_code] += 1

    async def overload(address: str) -> float:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(
            base_url=address, headers=headers, limits=limits, timeout=30
        ) as client:
            end = time.monotonic() + duration_s
            await asyncio.gather(*(infer(client, end) for _ in range(64)))
            start = time.monotonic()
            (await client.post(model.infer, content=body)).raise_for_status()
            return time.monotonic() - start

    paths = [model.path for model in several]
    with serving(paths) as (_, address), load(address, others, clients=1) as seen:
        assert asyncio.run(overload(address)) < 1
    assert list(seen.statuses) == [200]
    record_property("seen", f"{statuses[200]} answered, {statuses[503]} refused")
    assert set(statuses) <= {200, 503}
    assert min(statuses[200], statuses[503]) > 0
