import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from serve.http.bodies import MAX_BODY_BYTES, Budget, Headers
from serve.http.infer import PATH, Inference
from serve.model.engine import Engine
from serve.model.served import ServedModels

BODY = json.dumps(
    {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": [0] * 784}]}
).encode()


def infer_pieces(
    models: ServedModels,
    pieces: Iterable[bytes | None],
    headers: Headers | None = None,
) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    """Send a body in pieces, or disconnect at None; return status, headers and JSON."""
    waiting = list(pieces)
    sent: list[Message] = []

    async def receive() -> Message:
        piece = waiting.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    path = PATH.fullmatch("/v2/models/batchnorm_mlp/infer")
    assert path

    async def respond() -> None:
        budget = Budget()
        await Inference(models, budget).respond(path, {"headers": headers or []}, receive, send)
        assert budget.left == Budget().left

    asyncio.run(respond())
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


@pytest.fixture
def models(model: Path) -> ServedModels:
    return ServedModels([Engine.read(model)])


def test_a_body_in_pieces_is_one_body(models: ServedModels) -> None:
    status, _, response = infer_pieces(models, [BODY[:100], BODY[100:], b""])
    assert status == 200
    assert response["model_version"] == models.engines()[0].version


@pytest.mark.parametrize("pieces", [1, 5])
def test_a_body_over_the_limit_is_413(models: ServedModels, pieces: int) -> None:
    piece = b" " * (MAX_BODY_BYTES // pieces + 1)
    status, _, response = infer_pieces(models, [piece] * pieces + [b""])
    assert status == 413
    assert "4194304 bytes" in response["error"]


@pytest.mark.parametrize("pieces", [[None], [BODY[:100], None]])
def test_a_body_that_does_not_arrive_is_408(
    models: ServedModels, pieces: list[bytes | None]
) -> None:
    assert infer_pieces(models, pieces)[0] == 408


def test_overload_is_503_with_a_time_to_retry_after(models: ServedModels) -> None:
    models.served[0].batcher.max_waiting = 0
    status, headers, _ = infer_pieces(models, [BODY])
    assert (status, headers[b"retry-after"]) == (503, b"1")


def test_an_internal_failure_is_500_without_a_traceback(
    models: ServedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.engines()[0], "infer", lambda _inputs: 1 / 0)
    status, _, response = infer_pieces(models, [BODY])
    assert (status, response) == (500, {"error": "internal error, see the log"})


@pytest.mark.parametrize(
    ("name", "value", "expected", "reason"),
    [
        (b"inference-header-content-length", b"many", 400, "must be 1 to 18 digits"),
        (b"inference-header-content-length", b"-1", 400, "must be 1 to 18 digits"),
        (b"inference-header-content-length", b"9" * 30, 400, "must be 1 to 18 digits"),
        (b"inference-header-content-length", b"%d" % (len(BODY) + 1), 400, "but the body"),
        (b"content-encoding", b"gzip", 400, "the body is not gzip"),  # as it says that it is
        (b"content-encoding", b"br", 415, "must be gzip, deflate or identity"),
    ],
)
def test_an_invalid_header_is_400_and_an_unsupported_encoding_415(
    models: ServedModels, name: bytes, value: bytes, expected: int, reason: str
) -> None:
    status, _, response = infer_pieces(models, [BODY], [(name, value)])
    assert status == expected
    assert reason in response["error"]
