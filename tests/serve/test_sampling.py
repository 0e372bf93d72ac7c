"""The sample over HTTP: read, labeled and emptied, of all workers, and only if it is wanted."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from pipeline.core.files import ROOT
from serve.http.access import Access
from serve.http.app import App
from serve.model.engine import Engine
from serve.model.metrics import FILES
from serve.model.served import ServedModels
from tests.serve.process import (
    INFER,
    MODEL,
    Record,
    memory_mb,
    raw_request,
    serving,
    wait_until,
)
from tests.serve.test_sample import Rows, opened, parse
from tests.serve.test_workers import reserved, workers


def get(address: str, name: str = "batchnorm_mlp") -> Rows:
    """Read the sample over a connection of its own."""
    return parse(httpx.get(f"{address}/v2/models/{name}/sample").raise_for_status().content)


@pytest.mark.parametrize("rows", ["0", "1000000000"])
def test_an_impossible_number_of_rows_ends_the_start_with_a_line(model: Path, rows: str) -> None:
    command = [sys.executable, "-m", "serve", "--model", str(model), "--port", "0"]
    command += [f"--sample={rows}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: --sample must be .*got {rows}.*\n", done.stderr)


def test_without_the_option_there_is_no_sample_no_memory_and_a_hint(model: Path) -> None:
    for options in ([], ["--sample", "10"]):
        with serving(model, *options) as (process, address):
            send(address, 3, "a")
            mapped = "memfd:batchnorm_mlp" in Path(f"/proc/{process.pid}/maps").read_text()
            label = {"id": "a", "label": "1"}
            answers = [
                httpx.get(f"{address}{MODEL}/sample"),
                httpx.post(f"{address}{MODEL}/labels", json=label),
                httpx.delete(f"{address}{MODEL}/sample"),
            ]
        assert mapped == bool(options)
        if options:
            assert [answer.status_code for answer in answers] == [200, 204, 204]
        for answer in answers if not options else []:
            assert answer.status_code == 404
            assert "start the server with --sample ROWS" in answer.json()["error"]


def send(address: str, rows: int, request_id: str) -> None:
    """Request inference of black images over a connection of its own."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": [rows, 28, 28]}
    body = {"id": request_id, "inputs": [tensor | {"data": [0] * 784 * rows}]}
    httpx.post(address + INFER, json=body).raise_for_status()


def test_the_log_has_the_rows_and_the_memory(model: Path, tmp_path: Path) -> None:
    with serving(model, "--sample", "100", "--workers", "2", log=tmp_path / "log"):
        pass
    assert re.search(
        r"batchnorm_mlp: a sample of 100 rows takes 0\.2 MB\n", (tmp_path / "log").read_text()
    )


def test_unknown_labels_rows_and_bodies_are_refused(model: Path) -> None:
    with serving(model, "--sample", "10") as (_, address):
        send(address, 2, "a")
        for body, status, reason in (
            ({"id": "a", "label": "1", "row": 1}, 204, ""),
            ({"id": "a", "label": "1", "row": 2}, 404, "row 2 of request 'a' is not in the sample"),
            ({"id": "b", "label": "1"}, 404, "row 0 of request 'b' is not in the sample"),
            ({"id": "\ud800", "label": "1"}, 404, "is not in the sample"),
            ({"id": "a", "label": "one"}, 400, "no class 'one': this model has ['0', '1', '2', "),
            ({"id": "a", "label": "1", "row": -1}, 400, "cannot be read"),
            ({"id": "a"}, 400, "cannot be read"),
        ):
            answer = httpx.post(f"{address}{MODEL}/labels", content=json.dumps(body))
            assert answer.status_code == status
            assert reason in answer.text
        assert sorted(get(address).tensors["label"].tolist()) == [-1, 1]


def test_the_sample_needs_the_token_and_no_other_site_can_change_it(model: Path) -> None:
    with (
        serving(model, "--sample", "10", SERVE_TOKEN="secret") as (_, address),  # noqa: S106
        httpx.Client(base_url=f"{address}{MODEL}") as client,
    ):
        label = {"id": "a", "label": "1"}
        for headers, statuses in (
            ({}, [401, 401, 401]),
            ({"Authorization": "Bearer secret"}, [200, 404, 204]),
            ({"Authorization": "Bearer secret", "Sec-Fetch-Site": "cross-site"}, [200, 403, 403]),
        ):
            answers = [
                client.get("/sample", headers=headers),
                client.post("/labels", json=label, headers=headers),
                client.delete("/sample", headers=headers),
            ]
            assert [answer.status_code for answer in answers] == statuses


def test_a_sample_is_not_sent_if_too_much_waits(model: Path) -> None:
    engine = Engine.read(model)
    app = App(ServedModels([engine], [opened(engine, 100)]), Access(), start=lambda: None)

    async def statuses() -> list[int]:
        transport, answers = httpx.ASGITransport(app), []
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for left in (100 * 800, 100 * 900):
                app.budget.left = left
                answers.append((await client.get(f"{MODEL}/sample")).status_code)
        return answers

    assert asyncio.run(statuses()) == [503, 200]


def test_each_of_two_workers_reads_labels_and_empties_the_rows_of_both(model: Path) -> None:
    with serving(model, "--sample", "1000", "--workers", "2") as (process, address):
        wait_until(lambda: len(workers(process)) == 2)
        for number in range(30):  # each over its own connection, so that both workers get some
            send(address, 2, f"{number}")
        for number in range(30):
            label = {"id": f"{number}", "label": f"{number % 10}", "row": 1}
            assert httpx.post(f"{address}{MODEL}/labels", json=label).status_code == 204
        for _ in range(10):
            rows = get(address)
            assert len(rows) == 60
            assert rows.metadata["rows"] == "60"
            assert Counter(rows.tensors["label"].tolist()) == {-1: 30} | dict.fromkeys(range(10), 3)
        for sent in (20, 0):
            before = time.time()
            assert httpx.delete(f"{address}{MODEL}/sample").status_code == 204
            for _ in range(sent):
                send(address, 1, "after")
            for _ in range(10):
                rows = get(address)
                assert len(rows) == int(rows.metadata["rows"]) == sent
                assert before <= float(rows.metadata["began"]) <= time.time()


def test_the_sample_of_a_killed_worker_goes_on(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(model, "--sample", "1000", "--workers", "2", log=log) as (process, address):
        wait_until(lambda: len(workers(process)) == 2)
        for _ in range(20):
            send(address, 1, "before")
        for killed in workers(process):
            os.kill(killed, signal.SIGKILL)
        wait_until(lambda: log.read_text().count("starting another") == 2)
        for _ in range(20):
            send(address, 1, "after")
        for _ in range(5):
            rows = get(address)
            assert len(rows) == int(rows.metadata["rows"]) == 40


def test_a_reload_of_all_workers_starts_a_sample(
    model: Path, other_model: Path, tmp_path: Path
) -> None:
    log, version = tmp_path / "log", Engine.read(other_model).version
    options, folder = ["--sample", "10", "--workers", "2"], str(tmp_path)
    with serving(model, *options, log=log, TMPDIR=folder) as (process, address):
        wait_until(lambda: len(reserved(tmp_path)) == 2 * len(FILES))  # both workers have started
        send(address, 3, "before")
        other_model.replace(model)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: log.read_text().count(" replaces version ") == 2, 60)
        send(address, 2, "after")
        for _ in range(5):
            rows = get(address)
            assert rows.metadata["version"] == version
            assert len(rows) == int(rows.metadata["rows"]) == 2


@pytest.mark.slow
def test_a_million_rows_leave_the_memory_as_it_is(model: Path, record_property: Record) -> None:
    body, headers = raw_request(np.zeros((1000, 28, 28), np.uint8))
    with (
        serving(model, "--sample", "1024") as (process, address),
        httpx.Client(base_url=address, headers=headers) as client,
    ):
        before = 0.0
        for sent in range(1000):
            client.post(INFER, content=body).raise_for_status()
            before = before if sent > 20 else memory_mb(process)
        rows, growth = get(address), memory_mb(process) - before
    record_property("growth", f"{growth:.1f} MB")
    assert (len(rows), rows.metadata["rows"]) == (1024, "1000000")
    assert growth < 16
