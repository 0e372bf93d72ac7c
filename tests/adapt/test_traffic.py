"""Tests of what is read from a server: samples and the time of the last alarm."""

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from pipeline.adapt import traffic
from pipeline.adapt.traffic import empty_sample, fetch_sample, last_alarm, read_sample
from tests.adapt.samples import blank_sample, make_sample, serve_by, set_adapt

URL, DIGEST = "http://127.0.0.1:9", "0" * 64


def test_a_sample_has_the_images_and_the_answers_that_were_served() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 28, 28)).astype(np.uint8)
    logits = np.eye(10)[[3, 1, 4, 1, 5, 9]]
    sample = read_sample(make_sample(images, logits, "abcdef012345"))
    assert sample.version == "abcdef012345"
    assert (sample.images == images).all()
    assert sample.predictions.tolist() == [3, 1, 4, 1, 5, 9]
    assert sample.labels.tolist() == [-1] * 6


def test_the_halves_are_always_the_same_and_share_no_row() -> None:
    sample = read_sample(blank_sample(9))
    first, second = sample.halves()
    assert sorted([*first, *second]) == list(range(9))
    assert len(first) == 4
    assert first.tolist() != list(range(4))
    again, _ = read_sample(sample.content).halves()
    assert (first == again).all()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", save({"inputs/images": np.zeros((2, 28, 28), np.uint8)}), blank_sample(2)[:-1]],
)
def test_what_is_no_sample_is_a_short_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="the server's sample cannot be read") as error:
        read_sample(content)
    assert len(str(error.value)) < 300


def test_images_of_another_shape_are_an_error() -> None:
    content = make_sample(np.zeros((2, 32, 32), np.uint8), np.zeros((2, 10)))
    with pytest.raises(ValueError, match=r"images uint8 of shape \(32, 32\)"):
        read_sample(content)


def test_the_sample_is_fetched_once_it_has_enough_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = iter([0, 3, 5, 9])
    serve_by(lambda _: httpx.Response(200, content=blank_sample(next(rows))), monkeypatch)
    monkeypatch.setattr("time.sleep", lambda _: None)
    set_adapt(monkeypatch, traffic, rows=5)
    assert len(fetch_sample(URL, DIGEST).images) == 5


def test_too_few_rows_in_time_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_adapt(monkeypatch, traffic, rows=5, wait_s=0)
    serve_by(lambda _: httpx.Response(200, content=blank_sample(3)), monkeypatch)
    with pytest.raises(ValueError, match=r"sampled 3 rows in 0 s, and adapt\.rows = 5: run it aga"):
        fetch_sample(URL, DIGEST)


def test_a_server_without_a_sample_is_an_error_with_its_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve_by(lambda _: httpx.Response(404, json={"error": "use --sample"}), monkeypatch)
    with pytest.raises(
        ValueError,
        match=r"127\.0\.0\.1:9/v2/models/batchnorm_mlp/sample is not there: .*use --sample",
    ):
        fetch_sample(URL, DIGEST)


def test_the_sample_is_emptied_by_delete(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path))
        return httpx.Response(204)

    serve_by(respond, monkeypatch)
    empty_sample(URL)
    assert asked == [("DELETE", "/v2/models/batchnorm_mlp/sample")]


@pytest.mark.parametrize(("seconds", "found"), [("NaN", None), ("1.5e+09", 1.5e9)])
def test_the_last_alarm_is_that_of_the_deployed_model(
    seconds: str, found: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "inference_drift_alarm_timestamp_seconds"
    text = f'{name}{{model="simple_mlp"}} 2e+09\n{name}{{model="batchnorm_mlp"}} {seconds}\n'
    serve_by(lambda _: httpx.Response(200, text=text), monkeypatch)
    assert last_alarm(URL) == found
