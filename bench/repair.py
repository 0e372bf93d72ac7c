"""Shows drift and its repair, in about two minutes: `make drift`, or `python -m bench.repair`.

In a copy of the project with a store of its own, a server answers test images, which get darker,
brighter, foggy, shifted, and normal again. It serves the champion, which `pipeline.adapt
--watch` adapts, and the trained networks. Only this command knows the labels.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT
from tempfile import TemporaryDirectory
from threading import Thread
from typing import IO

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.live import Live
from rich.table import Table
from ruamel.yaml import YAML

from bench.repair_figure import Moment, draw
from models import NETWORKS
from pipeline.certify.server import stopping
from pipeline.core import files
from pipeline.core.inference import binary_request, infer
from pipeline.core.params import load_params
from pipeline.data.corruptions import CORRUPTIONS, to_pixels
from pipeline.data.load import load_dataset
from pipeline.export.build import UNSEEN

FIGURE = files.ARTIFACTS / "drift" / "repair.png"
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "clean": lambda images: images,
    "dimmed": lambda images: to_pixels(images * 0.4),
    "brightened": CORRUPTIONS["brightness"],
    "foggy": CORRUPTIONS["fog"],
    "shifted": CORRUPTIONS["translate"],
}
PHASES = [*CHANGES, "clean"]
ROWS, PAUSE_S = 40, 0.1  # of a request to each model, and after it
WINDOW = 400  # images in an accuracy
FIRST_S, SETTLED_S, LONGEST_S = 8, 5, 60  # of the first phase; after a verdict; of any other
COOLDOWN_S = 10
SWAPPED, REFUSED = "is the champion, in place of", "stays the champion"


def copy_project(folder: Path) -> None:
    """Copy the last commit, with data and artifacts, and let the adapted network be promoted."""
    subprocess.run(["git", "clone", "--quiet", files.ROOT, folder], check=True)
    shutil.copytree(files.ARTIFACTS, folder / "artifacts")
    (folder / "data").symlink_to(files.ROOT / "data")
    yaml, path = YAML(), folder / "params.yaml"
    params = yaml.load(path)
    params["adapt"] |= {"unattended": True, "cooldown_s": COOLDOWN_S}
    yaml.dump(params, path)


def environment() -> dict[str, str]:
    """Return the environment variables, without those of MLflow: the copy has its own store."""
    return {name: value for name, value in os.environ.items() if "MLFLOW" not in name}


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[IO[str]]:
    """Run a module of the copy, and yield its output."""
    with (
        subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=environment(),
            text=True,
            stdout=PIPE,
            stderr=STDOUT,
        ) as process,
        stopping(process),
    ):
        assert process.stdout
        yield process.stdout


@contextmanager
def served(folder: Path) -> Iterator[httpx.Client]:
    """Serve the champion and, by their keys with "trained_", the networks in artifacts/; yield a
    client."""
    models = [f"trained_{key}={files.model_path(key)}" for key in NETWORKS]
    models.append(f"models:/{load_params().tracking.registered_model}@champion")
    options = ["--port=0", "--poll=1", "--sample=2048", *(f"--model={model}" for model in models)]
    with running(folder, "serve", *options) as output:
        lines = iter(output.readline, "")
        address = next(found[0] for line in lines if (found := re.search(r"http://\S+", line)))
        Thread(target=output.read, daemon=True).start()  # or the pipe would fill up
        with httpx.Client(base_url=address, trust_env=False) as client:
            yield client


def measure(client: httpx.Client, key: str) -> tuple[str, float, float]:
    """Return the served version of a model, its alarms so far, and its drift rank."""
    (version,) = client.get(f"/v2/models/{key}").json()["versions"]
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.labels.get("model") == key
    }
    return version, found["inference_drift_alarms_total"], found["inference_drift_rank"]


def stream(client: httpx.Client, verdicts: list[str]) -> Iterator[Moment]:
    """Send the phases one after the other, and yield a moment per second.

    verdicts: the lines that the watch has printed so far. A phase ends soon after it has one, the
    last also once the trained network is back.
    """
    dataset, random = load_dataset(), np.random.default_rng(0)
    images, labels = dataset.test_images[UNSEEN], dataset.test_labels[UNSEEN]
    key = load_params().export.network
    names = [key, *(f"trained_{key}" for key in NETWORKS)]
    start = time.monotonic()
    version = trained = measure(client, key)[0]
    for place, phase in enumerate(PHASES):
        changed = CHANGES[phase](images)
        correct: dict[str, deque[bool]] = {name: deque(maxlen=WINDOW) for name in names}
        shown, seen, settled = time.monotonic(), len(verdicts), place == 0
        end = shown + (FIRST_S if settled else LONGEST_S)
        while time.monotonic() < end:
            rows = random.integers(0, len(images), ROWS)
            for name in names:
                logits = infer(client, name, binary_request(changed[rows]))["logits"]
                correct[name] += (logits.argmax(axis=1) == labels[rows]).tolist()
            if not settled and (len(verdicts) > seen or (version == trained and phase == "clean")):
                settled, end = True, time.monotonic() + SETTLED_S
            if time.monotonic() > shown + 1:
                shown = time.monotonic()
                accuracies = {name: float(np.mean(its)) for name, its in correct.items()}
                version, *its = measure(client, key)
                yield Moment(shown - start, phase, accuracies, version, *its)
            time.sleep(PAUSE_S)


def follow(output: IO[str], verdicts: list[str]) -> None:
    """Add each line with a verdict to the verdicts."""
    for line in output:
        if any(text in line for text in (SWAPPED, REFUSED, "error: ")):
            verdicts += [line.strip()]


def view(moment: Moment, verdicts: list[str]) -> Table:
    """Return what the terminal shows of a moment."""
    table = Table(title=f"{moment.seconds:.0f} s: {moment.phase} images", title_justify="left")
    table.add_column("network")
    table.add_column("accuracy", justify="right")
    for title, accuracy in moment.titled().items():
        table.add_row(title, f"{accuracy:.1%}")
    table.add_section()
    table.add_row("version that is served", moment.version)
    table.add_row("drift alarms", f"{moment.alarms:.0f}")
    table.add_row("drift rank (0.5 if all is well)", f"{moment.rank:.2f}")
    table.caption = verdicts[-1] if verdicts else "no verdict yet"
    return table


def main() -> None:
    """Run the stream, and draw what was seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.repair", description=__doc__)
    parser.add_argument("--figure", type=Path, default=FIGURE, help="where to draw it")
    figure = parser.parse_args().figure
    files.require(load_params().export.model, "export")
    console = Console()
    verdicts: list[str] = []
    moments: list[Moment] = []
    with TemporaryDirectory() as temporary:
        project = Path(temporary) / "project"
        console.print("registering the champion in a store of its own ...")
        copy_project(project)
        promote = [sys.executable, "-m", "pipeline.promote"]
        if subprocess.run(promote, cwd=project, env=environment(), stdout=PIPE).returncode:
            sys.exit("error: the champion could not be registered: run `make repro` first")
        with served(project) as client:
            url = str(client.base_url)
            with running(project, "pipeline.adapt", url, "--watch", "1") as output:
                Thread(target=follow, args=[output, verdicts], daemon=True).start()
                with Live(console=console, auto_refresh=False) as live:
                    for moment in stream(client, verdicts):
                        moments.append(moment)
                        live.update(view(moment, verdicts), refresh=True)
    files.write_png(figure, draw(moments))
    console.print(f"see {figure}")


if __name__ == "__main__":
    main()
