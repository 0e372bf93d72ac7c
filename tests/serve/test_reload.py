"""A reload replaces the model without failing a request, or keeps the old one and says why."""

import asyncio
import queue
import signal
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import httpx
import numpy as np
import onnx
import pytest

from serve.model.engine import Engine
from serve.model.reload import Reloader
from serve.model.served import ServedModels
from tests.serve.bad_models import BAD
from tests.serve.load import Served, load, versions
from tests.serve.other_models import MODELS, write
from tests.serve.process import INFER, MODEL, Record, raw_request, serving, wait_until

NAMES = ["batchnorm_mlp", "two_inputs", "no_batch"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--poll", "0.02"]], ids=["hangup", "poll"])
def test_fifty_swaps_of_each_of_three_models_under_load_fail_no_request(
    several: list[Served], tmp_path: Path, options: list[str], record_property: Record
) -> None:
    new, requests = tmp_path / "new.onnx", 0
    with serving([model.path for model in several], *options) as (process, address):

        def swap(model: Served, content: bytes) -> None:
            new.write_bytes(content)
            new.replace(model.path)
            if not options:
                process.send_signal(signal.SIGHUP)

        for model in several:
            contents = [model.revision(), model.path.read_bytes()]
            with load(address, several, clients=2) as seen:
                for number in range(50):
                    swap(model, contents[number % 2])
                    time.sleep(0.05)
            requests += seen.statuses.total()
            assert list(seen.statuses) == [200]
            counts = {name: len(versions) for name, versions in seen.versions.items()}
            assert counts == {name: 2 if name == model.name else 1 for name in NAMES}
            swap(model, model.revision(3))  # after which all swaps before it are over
            done = seen.versions[model.name]
            wait_until(lambda: versions(address)[model.name] not in done)  # noqa: B023
        process.terminate()
        assert process.wait(10) == 0
    record_property("seen", f"{requests} requests")


def test_of_three_models_the_one_with_a_corrupted_file_stays_and_the_others_are_replaced(
    several: list[Served], tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def logged(text: str, count: int) -> bool:
        return log.read_text().count(text) == count

    with serving([model.path for model in several], log=log) as (process, address):
        for number, (broken, zeros) in enumerate(product(several, [0, 4000]), 1):
            before = versions(address)
            for model in several:
                model.path.write_bytes(model.revision(number))
            whole = broken.path.read_bytes()
            middle = len(whole) // 2
            corrupted = whole[:middle] + bytes(zeros) + whole[middle + 4000 :]  # or cut out
            broken.path.write_bytes(corrupted)
            process.send_signal(signal.SIGHUP)
            wait_until(partial(logged, " replaces version ", 2 * number))
            kept = f"{broken.name}: reload failed, kept version"
            wait_until(partial(logged, kept, 1 + bool(zeros)))
            after = versions(address)
            assert [name for name in NAMES if after[name] == before[name]] == [broken.name]
            assert [model.status(address) for model in several] == [200] * 3
            broken.path.write_bytes(whole)


def test_no_bad_model_is_served_and_the_next_good_one_is(
    model: Path, other_model: Path, tmp_path: Path, record_property: Record
) -> None:
    log, bad_file = tmp_path / "log", tmp_path / "bad.onnx"
    good = onnx.load(model)
    body, headers = raw_request(np.zeros((1, 28, 28), np.uint8))

    def version(address: str) -> str:
        response = httpx.post(address + INFER, content=body, headers=headers)
        assert response.status_code == 200
        return response.json()["model_version"]

    def refused(count: int) -> bool:
        return log.read_text().count("kept version") == count

    with serving(model, log=log) as (process, address):
        old = version(address)
        for number, (change, _) in enumerate(BAD.values(), 1):
            bad = onnx.ModelProto()
            bad.CopyFrom(good)
            change(bad)
            onnx.save(bad, bad_file)
            bad_file.replace(model)
            process.send_signal(signal.SIGHUP)
            wait_until(partial(refused, number))
            assert version(address) == old
        other_model.replace(model)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: version(address) != old)
    record_property("seen", f"{len(BAD)} bad models refused")


@pytest.mark.parametrize("error", [MemoryError, KeyError, RuntimeError("line\nline"), EOFError])
def test_whatever_a_load_raises_the_next_one_works(
    model: Path,
    other_model: Path,
    error: Exception | type[Exception],
    caplog: pytest.LogCaptureFixture,
) -> None:
    next_load = Mock(side_effect=[error, Engine.read(other_model)])

    async def reload_twice() -> None:
        models, requests = ServedModels([Engine.read(model)]), queue.SimpleQueue[int]()
        (old,) = [engine.version for engine in models.engines()]
        Reloader([next_load], models, requests).start()
        requests.put(signal.SIGHUP)
        await until(lambda: f"batchnorm_mlp: reload failed, kept version {old}" in caplog.text)
        assert models.version("batchnorm_mlp") == old
        requests.put(signal.SIGHUP)
        await until(lambda: models.version("batchnorm_mlp") != old)

    asyncio.run(reload_twice())
    assert caplog.text.count("\n") == caplog.text.count("serve:") == len(caplog.records)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


def test_poll_swaps_without_a_signal(model: Path, other_model: Path) -> None:
    with serving(model, "--poll", "0.1") as (_, address):
        version = httpx.get(address + MODEL).json()["versions"]
        other_model.replace(model)
        wait_until(lambda: httpx.get(address + MODEL).json()["versions"] != version)


def logged(log: Path, text: str) -> bool:
    return text in log.read_text()


def test_a_reload_keeps_the_name_and_refuses_other_inputs(
    model: Path, other_model: Path, tmp_path: Path
) -> None:
    log, renamed = tmp_path / "log", onnx.load(other_model)
    renamed.graph.name = "another_network"
    failed = 'inference_reload_failed{model="batchnorm_mlp"} '
    with serving(model, log=log) as (process, address):
        version = httpx.get(address + MODEL).json()["versions"]
        for content, seen in (
            (onnx.load(write(tmp_path, MODELS["two_inputs"])), "other inputs or outputs"),
            (renamed, "replaces version"),
        ):
            onnx.save(content, model)
            process.send_signal(signal.SIGHUP)
            wait_until(partial(logged, log, seen))
            metrics = httpx.get(f"{address}/metrics").text
            assert f"{failed}{'0.0' if content is renamed else '1.0'}" in metrics
        assert httpx.get(address + MODEL).json()["versions"] != version


@pytest.mark.slow
def test_a_file_that_is_rewritten_in_place_while_polled_is_never_served_torn(
    several: list[Served], model: Path, other_model: Path, record_property: Record
) -> None:
    contents = [path.read_bytes() for path in (other_model, model)]
    whole = {Engine.read(path).version for path in (model, other_model)}
    with (
        serving(model, "--poll", "0.02") as (_, address),
        load(address, several[:1], clients=1) as seen,
        model.open("r+b", buffering=0) as file,
    ):
        for rewrite in range(20):
            content = contents[rewrite % 2]
            file.seek(0)
            for start in range(0, len(content), 2**15):  # the file is torn for most of the time
                file.write(content[start : start + 2**15])
                time.sleep(0.005)
            file.truncate()
            time.sleep(0.1)
    record_property("seen", f"{seen.statuses.total()} requests")
    assert list(seen.statuses) == [200]
    assert seen.versions["batchnorm_mlp"] <= whole


@pytest.mark.parametrize("contents", [b"", b"not a model"])
def test_a_start_that_fails_ends_with_one_line(tmp_path: Path, contents: bytes) -> None:
    path, log = tmp_path / "model.onnx", tmp_path / "log"
    path.write_bytes(contents)
    with pytest.raises(AssertionError), serving(path, log=log):
        pass
    (line,) = log.read_text().splitlines()
    assert line.startswith(f"error: {path} is not a usable ONNX model: ")
