import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.load import Dataset
from serve.model.batching import OverloadError
from serve.model.engine import Engine
from serve.model.metrics import Metrics
from serve.model.served import ServedModel
from serve.protocol.tensors import Arrays
from tests.serve.process import decoder, infer, raw_request


class Watched(Engine):
    """An engine that records the size of each batch."""

    def __init__(self, path: Path) -> None:
        self.sizes: list[int] = []
        super().__init__(path, path.read_bytes())
        self.sizes.clear()  # those of the self-test

    def infer(self, inputs: Arrays) -> Arrays:
        self.sizes.append(len(inputs["images"]))
        return super().infer(inputs)


def test_waiting_requests_are_one_batch_and_each_gets_its_own_logits(
    model: Path, small_dataset: Dataset
) -> None:
    engine = Watched(model)
    requests = np.split(small_dataset.test_images[:12], [1, 3, 6])

    async def infer_all() -> list[np.ndarray]:
        served = ServedModel(engine, Metrics())
        answers = await asyncio.gather(*(infer(served, images) for images in requests))
        return [outputs["logits"] for outputs in answers]

    logits = asyncio.run(infer_all())
    assert engine.sizes == [12]
    assert [len(rows) for rows in logits] == [1, 2, 3, 6]
    alone = np.concatenate([engine.infer({"images": images})["logits"] for images in requests])
    assert np.allclose(np.concatenate(logits), alone, atol=1e-5)


def test_a_batch_does_not_exceed_its_maximum_size(model: Path, small_dataset: Dataset) -> None:
    engine = Watched(model)

    async def infer_all() -> None:
        served = ServedModel(engine, Metrics())
        served.batcher.max_batch = 4
        await asyncio.gather(*(infer(served, small_dataset.test_images[:3]) for _ in range(3)))

    asyncio.run(infer_all())
    assert engine.sizes == [3, 3, 3]


def test_a_request_beyond_the_limit_is_refused_immediately(
    model: Path, small_dataset: Dataset
) -> None:
    async def infer_too_much() -> None:
        served = ServedModel(Engine.read(model), Metrics())
        served.batcher.max_waiting = 4
        first = infer(served, small_dataset.test_images[:3])
        with pytest.raises(OverloadError):
            infer(served, small_dataset.test_images[:2])
        await first
        await infer(served, small_dataset.test_images[:4])

    asyncio.run(infer_too_much())


def test_a_failure_reaches_the_requests_that_cause_it_and_no_other(
    model: Path, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Watched(model)
    image = small_dataset.test_images[:1]

    def fail_if_blank(inputs: Arrays) -> Arrays:
        outputs = Watched.infer(engine, inputs)
        if not inputs["images"].any(axis=(1, 2)).all():
            raise ZeroDivisionError
        return outputs

    async def infer_all() -> None:
        served = ServedModel(engine, Metrics())
        with monkeypatch.context() as patch:
            patch.setattr(engine, "infer", fail_if_blank)
            requests = (infer(served, images) for images in (image, 0 * image, image, 0 * image))
            answers: list[Any] = await asyncio.gather(*requests, return_exceptions=True)
        assert engine.sizes == [4, 1, 1, 1, 1]
        assert [type(answer) for answer in answers] == [dict, ZeroDivisionError] * 2
        alone = engine.infer({"images": image})
        for answer in (answers[0], answers[2], await infer(served, image)):
            assert np.array_equal(answer["logits"], alone["logits"])

    asyncio.run(infer_all())


@pytest.mark.parametrize("count", [1, 3])
def test_requests_that_fail_are_freed_without_garbage_collection(
    model: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    engine = Engine.read(model)
    monkeypatch.setattr(engine, "infer", lambda _inputs: 1 / 0)

    async def infer_all() -> list[weakref.ref[np.ndarray]]:
        served, images, answers = ServedModel(engine, Metrics()), [], []
        for _ in range(count):
            body, headers = raw_request(np.zeros((1, 28, 28), np.uint8))
            request = decoder(engine).decode(body, int(*headers.values()))
            images.append(weakref.ref(request.inputs["images"]))
            answers.append(served.batcher.infer(request, 0.0))
        await asyncio.wait(answers)
        assert [type(answer.exception()) for answer in answers] == [ZeroDivisionError] * count
        return images

    gc.disable()
    try:
        images = asyncio.run(infer_all())
        assert [image() for image in images] == [None] * count
    finally:
        gc.enable()


@pytest.mark.parametrize("part", ["observe_batch", "observe_requests"])
def test_no_caller_is_lost_if_recording_its_batch_fails(
    model: Path, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async def infer_all() -> None:
        served = ServedModel(Engine.read(model), Metrics())
        with monkeypatch.context() as patch:
            patch.setattr(served.metrics, part, lambda *_: 1 / 0)
            requests = (infer(served, small_dataset.test_images[:1]) for _ in range(2))
            errors = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), 5)
        assert [type(error) for error in errors] == [ZeroDivisionError] * 2
        await asyncio.wait_for(infer(served, small_dataset.test_images[:1]), 5)

    asyncio.run(infer_all())


def test_a_canceled_request_does_not_affect_the_others(model: Path, small_dataset: Dataset) -> None:
    async def infer_all() -> None:
        served = ServedModel(Engine.read(model), Metrics())
        canceled, other = (infer(served, small_dataset.test_images[:1]) for _ in range(2))
        canceled.cancel()
        await other
        assert served.batcher.waiting == 0

    asyncio.run(infer_all())
