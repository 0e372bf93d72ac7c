import asyncio
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.load import Dataset
from serve.batching import Batcher, OverloadError
from serve.engine import Engine


class Watched(Engine):
    """An engine that records the size of each batch."""

    def __init__(self, path: Path) -> None:
        self.sizes: list[int] = []
        super().__init__(path)
        self.sizes.clear()  # those of the self-test

    def infer(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.sizes.append(len(images))
        return super().infer(images)


def test_waiting_requests_are_one_batch_and_each_gets_its_own_logits(
    model: Path, small_dataset: Dataset
) -> None:
    engine = Watched(model)
    requests = np.split(small_dataset.test_images[:12], [1, 3, 6])

    async def infer_all() -> list[np.ndarray]:
        batcher = Batcher(engine)
        answers = await asyncio.gather(*(batcher.infer(images, 0.0) for images in requests))
        return [tensors["logits"] for _, tensors in answers]

    logits = asyncio.run(infer_all())
    assert engine.sizes == [12]
    assert [len(rows) for rows in logits] == [1, 2, 3, 6]
    alone = np.concatenate([engine.infer(images)["logits"] for images in requests])
    assert np.allclose(np.concatenate(logits), alone, atol=1e-5)


def test_a_batch_does_not_exceed_its_maximum_size(model: Path, small_dataset: Dataset) -> None:
    engine = Watched(model)

    async def infer_all() -> None:
        batcher = Batcher(engine, max_batch=4)
        await asyncio.gather(*(batcher.infer(small_dataset.test_images[:3], 0.0) for _ in range(3)))

    asyncio.run(infer_all())
    assert engine.sizes == [3, 3, 3]


def test_a_request_beyond_the_limit_is_refused_immediately(
    model: Path, small_dataset: Dataset
) -> None:
    async def infer_too_much() -> None:
        batcher = Batcher(Engine(model), max_waiting=4)
        first = batcher.infer(small_dataset.test_images[:3], 0.0)
        with pytest.raises(OverloadError):
            batcher.infer(small_dataset.test_images[:2], 0.0)
        await first
        await batcher.infer(small_dataset.test_images[:4], 0.0)

    asyncio.run(infer_too_much())


def test_a_failure_reaches_every_request_of_its_batch_and_no_other(
    model: Path, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def infer() -> None:
        batcher = Batcher(Engine(model))
        with monkeypatch.context() as patch:
            patch.setattr(batcher.engine, "infer", lambda _images: 1 / 0)
            requests = (batcher.infer(small_dataset.test_images[:1], 0.0) for _ in range(2))
            errors = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(error) for error in errors] == [ZeroDivisionError] * 2
        await batcher.infer(small_dataset.test_images[:1], 0.0)

    asyncio.run(infer())


@pytest.mark.drill
@pytest.mark.parametrize("part", ["observe_batch", "observe_requests"])
def test_no_caller_is_lost_if_recording_its_batch_fails(
    model: Path, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async def infer() -> None:
        batcher = Batcher(Engine(model))
        with monkeypatch.context() as patch:
            patch.setattr(batcher.metrics, part, lambda *_: 1 / 0)
            requests = (batcher.infer(small_dataset.test_images[:1], 0.0) for _ in range(2))
            errors = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), 5)
        assert [type(error) for error in errors] == [ZeroDivisionError] * 2
        await asyncio.wait_for(batcher.infer(small_dataset.test_images[:1], 0.0), 5)

    asyncio.run(infer())


def test_a_canceled_request_does_not_affect_the_others(model: Path, small_dataset: Dataset) -> None:
    async def infer() -> None:
        batcher = Batcher(Engine(model))
        canceled, other = (batcher.infer(small_dataset.test_images[:1], 0.0) for _ in range(2))
        canceled.cancel()
        await other
        assert batcher.waiting == 0

    asyncio.run(infer())
