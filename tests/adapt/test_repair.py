"""From the alarm to a better champion and back, over HTTP, and adaptations that are killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np
import pytest
from mlflow import MlflowClient

from pipeline.core.inference import binary_request, infer
from pipeline.data.load import load_dataset
from pipeline.export.build import UNSEEN
from tests.serve.process import launched, wait_until, wait_until_ready
from tests.support import Run, set_param, start, wait_for

pytestmark = pytest.mark.slow
MODEL = "/v2/models/batchnorm_mlp"
RecordProperty = Callable[[str, object], None]


class Traffic(Thread):
    """Sends test images, 20 per request, until `stop` is set; foggy: whether they are.

    rows: how many were answered; failed: what went wrong.
    """

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        dataset = load_dataset()
        order = np.random.default_rng(0).permutation(len(dataset.test_labels[UNSEEN]))
        self._images = dataset.test_images[UNSEEN][order]  # their own order raises alarms
        self._labels = dataset.test_labels[UNSEEN][order]
        self._address = address
        self.foggy = False
        self.rows = 0
        self.failed: list[str] = []
        self.stop = Event()

    def images(self) -> np.ndarray:
        """Return all images; the fog is even, so that it costs no information."""
        return self._images // 2 + 100 if self.foggy else self._images

    def run(self) -> None:
        random = np.random.default_rng(0)
        with httpx.Client(base_url=self._address, timeout=30) as client:
            while not self.stop.wait(0.05):
                images = self.images()[random.integers(0, len(self._images), 20)]
                try:
                    infer(client, "batchnorm_mlp", binary_request(images))
                    self.rows += len(images)
                except httpx.HTTPError as error:
                    self.failed.append(str(error))

    def accuracy(self) -> float:
        """Return the accuracy on all images, which are sent once."""
        with httpx.Client(base_url=self._address, timeout=30) as client:
            parts = [
                infer(client, "batchnorm_mlp", binary_request(images))["logits"]
                for images in np.array_split(self.images(), 10)
            ]
        return float((np.concatenate(parts).argmax(axis=1) == self._labels).mean())


@contextmanager
def serving_champion(project: Path, log: Path) -> Iterator[str]:
    """Serve the champion of the project's store; yield the address."""
    options = ["--model=models:/mnist-batchnorm@champion", "--poll=1", "--sample=2048"]
    clean = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
    command = [sys.executable, "-m", "serve", *options]
    with launched(command, project, clean, log) as (_, address):
        wait_until_ready(address)
        yield address


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process with all that it has started, unless it has ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def version(address: str) -> str:
    return str(httpx.get(address + MODEL).json()["versions"][0])


def alarms(address: str) -> float:
    text = httpx.get(f"{address}/metrics").text
    found = re.search(r'inference_drift_alarms_total\{model="batchnorm_mlp"\} (\S+)', text)
    assert found
    return float(found[1])


def versions(project: Path) -> int:
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    return len(client.search_model_versions("name = 'mnist-batchnorm'"))


def test_fog_is_repaired_and_traced_and_the_trained_statistics_return_after_it(
    project: Path, run: Run, record_property: RecordProperty, tmp_path: Path
) -> None:
    set_param(project, "adapt.unattended", True)
    set_param(project, "adapt.cooldown_s", 5)
    with serving_champion(project, tmp_path / "log") as address:
        traffic = Traffic(address)
        traffic.start()
        watches = [start(project, f"python -m pipeline.adapt {address} --watch 1")]
        watches.append(start(project, f"python -m pipeline.adapt {address} --watch 1"))
        try:
            for watch in watches:
                wait_for(watch, "Ctrl-C ends it")
            trained, clean = version(address), traffic.accuracy()
            assert alarms(address) == 0

            traffic.foggy = True
            wait_until(lambda: alarms(address) > 0, 60)
            rung, foggy = time.monotonic(), traffic.accuracy()
            wait_until(lambda: version(address) != trained, 300)
            first, repaired = time.monotonic() - rung, traffic.accuracy()
            assert foggy < clean - 0.2
            assert repaired > clean - 0.01
            assert versions(project) == 2  # although there are two watches
            assert "\u2713 adaptation" in run(f"python -m pipeline.trace {address}").stdout
            (sample,) = (project / "mlartifacts").rglob("sample.safetensors")
            sample.write_bytes(sample.read_bytes() + b" ")
            assert "\u2717 adaptation" in run("python -m pipeline.trace champion", 1).stdout

            traffic.foggy = False
            wait_until(lambda: version(address) == trained, 300)
            assert traffic.accuracy() == clean
        finally:
            traffic.stop.set()
            for watch in watches:
                kill(watch)
        traffic.join()
        assert traffic.failed == []
    seen = f"{clean:.2%}, in fog {foggy:.2%}, repaired {repaired:.2%}"
    record_property("seen", f"{seen}; {first:.0f} s from alarm to swap")


def test_an_adaptation_killed_at_any_moment_leaves_the_champion_and_can_be_repeated(
    project: Path, record_property: RecordProperty, tmp_path: Path
) -> None:
    set_param(project, "adapt.unattended", True)
    client, moments = MlflowClient(f"sqlite:///{project}/mlflow.db"), np.random.default_rng(0)
    with serving_champion(project, tmp_path / "log") as address:
        before, traffic = version(address), Traffic(address)
        traffic.foggy = True
        traffic.start()
        try:
            wait_until(lambda: traffic.rows > 1200, 60)
            command = f"python -m pipeline.adapt {address}"
            for _ in range(10):
                process = start(project, command)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(moments.uniform(2, 12))
                kill(process)
                if version(address) != before:  # it was faster
                    client.set_registered_model_alias("mnist-batchnorm", "champion", "1")
                    wait_until(lambda: version(address) == before, 30)
                champion = client.get_model_version_by_alias("mnist-batchnorm", "champion")
                assert "certificate.sha256" in champion.tags
            process = start(project, command)
            assert "in place of version 1" in process.communicate()[0]
            wait_until(lambda: version(address) != before, 60)
        finally:
            traffic.stop.set()
        traffic.join()
        assert traffic.failed == []
    runs = client.search_runs(
        [client.get_experiment_by_name("mnist-batchnorm-adapt").experiment_id],
        "attributes.status = 'RUNNING'",
    )
    assert runs == []
    record_property("seen", "10 kills, no request failed")
