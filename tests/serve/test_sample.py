"""The sample: uniform, whole, of one version, and bounded."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load

from pipeline.data.load import Dataset
from serve.model.engine import Engine
from serve.model.memory import MAX_BYTES, allocate
from serve.model.metrics import Metrics
from serve.model.sample import Sample
from serve.model.served import ServedModel, ServedModels
from serve.protocol.request import Request
from serve.protocol.tensors import Arrays
from tests.serve.other_models import INPUTS, MODELS, request, write
from tests.serve.process import decoder, wait_until

HALF = MODELS["half"]  # y = x + x


class Rows(NamedTuple):
    """A sample as a client reads it."""

    tensors: Arrays
    metadata: dict[str, str]

    def __len__(self) -> int:
        return len(self.tensors["time"])


def parse(content: bytes) -> Rows:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return Rows(load(content), header["__metadata__"])


def opened(engine: Engine, rows: int, count: int = 1) -> Sample:
    path = allocate(engine, rows, count)
    assert path
    sample = Sample(path, engine, rows, count)
    sample._random = np.random.default_rng(0)
    sample.begin(engine.version)
    return sample


@pytest.fixture
def half(tmp_path: Path) -> Engine:
    return Engine.read(write(tmp_path, HALF))


def serve(sample: Sample, values: Sequence[float], batch: int = 3, request_id: str = "a") -> None:
    """Add rows that are filled with these values, in batches of two requests."""
    for start in range(0, len(values), batch):
        x = np.repeat(np.array(values[start : start + batch], np.float16)[:, None], 4, axis=1)
        requests = [
            (Request({"x": part}, len(part), [], None, id=request_id), None, time.perf_counter())
            for part in (x[:1], x[1:])
        ]
        sample.add(len(x), requests, {"y": x + x})


def values(sample: Sample) -> list[float]:
    return parse(sample.read()).tensors["inputs/x"][:, 0].tolist()


def test_the_same_sample_has_the_same_bytes(half: Engine) -> None:
    sample = opened(half, 10)
    serve(sample, range(60))
    assert len({sample.read() for _ in range(20)}) == 1


def test_every_row_is_kept_equally_often(half: Engine) -> None:
    sample, counts = opened(half, 10), Counter[float]()
    for _ in range(2000):
        sample.empty()
        serve(sample, range(60))
        counts.update(values(sample))
    assert counts.total() == 2000 * 10
    deviation = (2000 / 6 * 5 / 6) ** 0.5
    assert all(abs(counts[row] - 2000 / 6) < 4 * deviation for row in range(60))


@pytest.fixture
def both(half: Engine, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """The same sample of 8 rows, as each of two workers has it."""
    path, both = allocate(half, 8, 2), []
    assert path
    for place in range(2):
        monkeypatch.setattr("serve.model.sample.lock_any", lambda *_, place=place: place)
        both.append(Sample(path, half, 8, 2))
        both[-1].begin(half.version)
    return both


def test_the_rows_of_a_worker_are_kept_as_often_as_those_of_one_that_serves_more(
    both: list[Sample],
) -> None:
    few, many = both
    kept = Counter[bool]()
    for _ in range(1000):
        many.empty()
        serve(few, range(10))
        serve(many, range(10, 60))
        assert values(few) == values(many)
        kept.update(value < 10 for value in values(few))
    assert kept.total() == 8000
    assert kept[True] == pytest.approx(8000 / 6, rel=0.1)


def test_rows_of_a_worker_that_has_another_version_are_left_out(both: list[Sample]) -> None:
    old, new = both
    new.begin("b" * 12)
    serve(old, [1, 2])
    serve(new, [3])
    assert sorted(values(old)) == [1, 2]
    assert values(new) == [3]
    assert [parse(sample.read()).metadata["rows"] for sample in both] == ["2", "1"]
    assert not new.label("a", 1, 7)


def test_all_rows_are_kept_while_there_is_room_with_what_belongs_to_them(half: Engine) -> None:
    sample, start = opened(half, 100), time.time()
    serve(sample, range(50))
    tensors, metadata = parse(sample.read())
    assert sorted(values(sample)) == list(range(50))
    assert np.array_equal(tensors["outputs/y"], 2 * tensors["inputs/x"])
    assert tensors["label"].tolist() == [-1] * 50
    assert ((start <= tensors["time"]) & (tensors["time"] <= time.time())).all()
    assert (metadata["model"], metadata["version"]) == (half.name, half.version)
    assert metadata["rows"] == "50"
    assert start - 1 < float(metadata["began"]) <= tensors["time"].min()


def test_the_time_is_that_of_arrival(half: Engine) -> None:
    sample, x = opened(half, 1), np.zeros((1, 4), np.float16)
    arrival = time.perf_counter() - 100
    sample.add(1, [(Request({"x": x}, 1, [], None), None, arrival)], {"y": x})
    assert parse(sample.read()).tensors["time"] == pytest.approx(time.time() - 100, abs=1)


def test_a_sample_has_the_datatypes_and_shapes_of_any_inputs_and_outputs(tmp_path: Path) -> None:
    for name in ("two_inputs", "mask", "half"):
        engine, inputs = Engine.read(write(tmp_path, MODELS[name])), INPUTS[name]
        sample, outputs = opened(engine, 5), engine.infer(inputs)
        rows = len(next(iter(inputs.values())))
        sample.add(rows, [(Request(inputs, rows, [], None), None, 0.0)], outputs)
        tensors = parse(sample.read()).tensors
        expected = {f"inputs/{key}": array for key, array in inputs.items()}
        expected |= {f"outputs/{key}": array for key, array in outputs.items()}
        assert set(tensors) == {*expected, "time", "label"}
        order = np.argsort(tensors[f"inputs/{next(iter(inputs))}"][:, 0])
        for key, array in expected.items():
            by_input = np.argsort(next(iter(inputs.values()))[:, 0])
            assert tensors[key].dtype == array.dtype
            assert np.array_equal(tensors[key][order], array[by_input])


@pytest.mark.parametrize("name", ["no_batch", "any_length", "scalar"])
def test_a_model_whose_rows_have_no_fixed_size_is_not_sampled_and_the_log_says_so(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert allocate(Engine.read(write(tmp_path, MODELS[name])), 10, 1) is None
    assert f"{name} is not sampled" in caplog.text


def test_a_sample_is_bounded_and_in_memory_alone(half: Engine) -> None:
    most = MAX_BYTES // (8 + 8 + 8 + 8)
    with pytest.raises(ValueError, match=f"--sample must be at most {most} for half, got"):
        allocate(half, most + 1, 1)
    path = allocate(half, most, 1)
    assert path
    assert str(Path(path).readlink()).startswith("/memfd:half")
    assert Path(path).stat().st_blocks * 512 >= most * 32  # allocated, so that no write can fail


def test_a_torn_row_is_dropped_and_its_slot_is_used_again(half: Engine) -> None:
    sample = opened(half, 5)
    serve(sample, range(5))
    sample._slots["sequence"][2] += 1  # as if a worker had been killed while it wrote
    assert len(values(sample)) == 4
    sample.begin(half.version)  # the worker that replaces it
    serve(sample, range(5, 6))
    assert len(values(sample)) == 5
    assert 5 in values(sample)


def serve_on(file: Path, path: str, rows: int) -> None:
    """Be the other worker: serve without a pause, and empty the sample now and then."""
    sample = Sample(path, Engine.read(file), rows, 2)
    sample.begin("a" * 12)
    while True:
        serve(sample, range(8 * rows), 32)
        sample.empty()


def test_no_row_is_torn_while_another_worker_writes(tmp_path: Path) -> None:
    rows, file, read = 200, write(tmp_path, HALF), 0
    half = Engine.read(file)
    path = allocate(half, rows, 2)
    assert path
    sample = Sample(path, half, rows, 2)
    sample.begin("a" * 12)
    other = get_context("spawn").Process(target=serve_on, args=[file, path, rows], daemon=True)
    other.start()
    try:
        wait_until(lambda: len(values(sample)) > 0, 30)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            tensors = parse(sample.read()).tensors
            assert np.array_equal(tensors["outputs/y"], 2 * tensors["inputs/x"])
            read += len(tensors["time"])
    finally:
        other.kill()
        other.join()
    assert read > 10_000


def test_a_row_that_is_replaced_while_it_is_read_is_dropped(
    half: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = opened(half, 5)
    serve(sample, range(5))
    find = sample._find

    def find_before_one_is_replaced() -> Any:
        found = find()
        sample._slots["sequence"][3] += 2
        return found

    monkeypatch.setattr(sample, "_find", find_before_one_is_replaced)
    assert len(values(sample)) == 4


def test_a_label_is_of_its_row_and_not_of_the_one_that_replaces_it(half: Engine) -> None:
    sample = opened(half, 1)
    serve(sample, [1], request_id="one")
    assert not sample.label("one", 1, 7)
    assert not sample.label("two", 0, 7)
    assert sample.label("one", 0, 7)
    assert parse(sample.read()).tensors["label"].tolist() == [7]
    while values(sample) == [1]:
        serve(sample, [2], request_id="two")
    assert parse(sample.read()).tensors["label"].tolist() == [-1]
    assert not sample.label("one", 0, 7)


def test_a_row_without_an_id_has_no_label(half: Engine) -> None:
    sample, x = opened(half, 1), np.zeros((1, 4), np.float16)
    sample.add(1, [(Request({"x": x}, 1, [], None), None, 0.0)], {"y": x})
    assert not any(sample.label(text, 0, 7) for text in ("", "None", "0"))


def test_another_version_starts_a_sample_and_an_old_one_does_not_come_back(half: Engine) -> None:
    sample = opened(half, 5)
    serve(sample, range(5))
    for version in ("b" * 12, half.version):
        sample.begin(version)
        rows = parse(sample.read())
        assert (len(rows), rows.metadata["rows"]) == (0, "0")
        assert rows.metadata["version"] == version
        serve(sample, range(2))
        assert sorted(values(sample)) == [0, 1]


def test_requests_that_finish_on_a_replaced_version_are_not_sampled(
    model: Path, other_model: Path, small_dataset: Dataset
) -> None:
    old, new = Engine.read(model), Engine.read(other_model)
    images = {"images": small_dataset.test_images[:3]}

    async def infer() -> list[str]:
        models, rows = ServedModels([old], [opened(old, 10)]), []
        for _ in range(2):
            before = models.served[0]
            assert before.sample
            await before.batcher.infer(Request(images, 3, [], None), 0.0)
            rows.append(parse(before.sample.read()).metadata["rows"])
            models.swap(0, new)
            await before.batcher.infer(Request(images, 3, [], None), 0.0)
            rows.append(parse(before.sample.read()).metadata["rows"])
        return rows

    assert asyncio.run(infer()) == ["3", "0", "3", "3"]


def test_a_batch_of_several_requests_gives_each_row_its_own_id_inputs_and_outputs(
    model: Path, small_dataset: Dataset
) -> None:
    engine, parts = Engine.read(model), np.split(small_dataset.test_images[:12], [1, 3, 6])
    sample = opened(engine, 100)

    async def infer_all() -> None:
        served = ServedModel(engine, Metrics(), sample)
        await asyncio.gather(
            *(
                served.batcher.infer(Request({"images": part}, len(part), [], True, id=f"{i}"), 0.0)
                for i, part in enumerate(parts)
            )
        )

    asyncio.run(infer_all())
    label = 0
    for number, part in enumerate(parts):
        for row in range(len(part)):
            assert sample.label(f"{number}", row, label)
            label += 1
    tensors = parse(sample.read()).tensors
    order = tensors["label"].argsort()
    assert tensors["label"][order].tolist() == list(range(12))
    images = small_dataset.test_images[:12]
    assert np.array_equal(tensors["inputs/images"][order], images)
    logits = engine.infer({"images": images})["logits"]
    assert np.allclose(tensors["outputs/logits"][order], logits, atol=1e-5)


def test_a_request_can_stay_out_of_the_sample_and_shares_no_batch_with_one_that_does_not(
    half: Engine,
) -> None:
    body, _ = request(INPUTS["half"])
    sample = opened(half, 10)

    def decode(**parameters: bool) -> Request:
        message = json.loads(body) | {"parameters": parameters}
        return decoder(half).decode(json.dumps(message).encode())

    async def infer_all() -> None:
        served = ServedModel(half, Metrics(), sample)
        choices: list[dict[str, bool]] = [{}, {"sample": False}, {"sample": True}, {"drift": False}]
        await asyncio.gather(*(served.batcher.infer(decode(**one), 0.0) for one in choices))

    asyncio.run(infer_all())
    assert parse(sample.read()).metadata["rows"] == "3"
    assert decode().batch_key == decode(sample=True).batch_key != decode(sample=False).batch_key


def test_no_request_fails_if_its_rows_cannot_be_sampled(half: Engine) -> None:
    async def infer() -> Arrays:
        served = ServedModel(half, Metrics(), opened(half, 10))
        served.batcher.sample = lambda *_: 1 / 0  # type: ignore[assignment]
        inputs = INPUTS["half"]
        return await served.batcher.infer(Request(inputs, 1, [], None), 0.0)

    assert asyncio.run(infer())["y"].shape == (1, 4)
