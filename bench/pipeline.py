"""Times what a user waits for, against the tutorial's training: `python -m bench.pipeline`.

The commands run in a clone of HEAD, so nothing of this one changes; the tutorial's ten epochs of
every network are ten times one epoch, measured between the commands. CPU seconds are those of all
processes that a command starts. Each figure is the median of all rounds.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from bench.training import EPOCHS, tutorial_loader, tutorial_seconds
from pipeline.core.files import ROOT

FIRST_EPOCH = "the first epoch of `python -m pipeline.train`"
WHOLE = "dvc repro --force certify"
COMMANDS = (
    "python -m pipeline.train",
    "python -m pipeline.export",
    "python -m pipeline.certify",
    "python -m pipeline.promote",
    WHOLE,
    "dvc repro",
    "make repro STUDY=0",
    "dvc exp run -S train.lr={lr}",
)
TUTORIAL = f"the tutorial's {EPOCHS} epochs of every network"

Cost = tuple[float, float]  # seconds, and CPU seconds


def cpu_seconds() -> float:
    """Return the CPU seconds of this process's children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def time_command(command: str, folder: Path) -> dict[str, Cost]:
    """Return what a command costs and, if it trains, what it takes until its first epoch."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    costs, cpu, start = {}, cpu_seconds(), time.perf_counter()
    with subprocess.Popen(
        command.split(),
        cwd=folder,
        env={n: v for n, v in os.environ.items() if "MLFLOW" not in n} | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        output = []
        for line in process.stdout or ():
            output.append(line)
            if "epoch 1/" in line and FIRST_EPOCH not in costs:
                costs[FIRST_EPOCH] = (time.perf_counter() - start, float("nan"))
    if process.returncode:
        sys.exit(f"error: `{command}` failed:\n{''.join(output)}")
    costs[command] = (time.perf_counter() - start, cpu_seconds() - cpu)
    return costs


def time_round(folder: Path, number: int) -> Iterator[tuple[str, Cost]]:
    """Yield what each of `COMMANDS` costs, once."""
    for command in COMMANDS:
        lr = 0.05 + number / 1000  # or DVC would restore the last round's experiment
        costs = time_command(command.format(lr=lr), folder)
        if command == COMMANDS[0]:
            yield FIRST_EPOCH, costs[FIRST_EPOCH]
        yield command.format(lr=0.05), costs[command.format(lr=lr)]
        if command.startswith("dvc exp"):
            for undo in ("git checkout -q .", "dvc checkout -q"):
                time_command(undo, folder)


def main() -> None:
    """Measure, then print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds to take (default: 3)")
    rounds, batches = parser.parse_args().rounds, tutorial_loader()
    costs: dict[str, list[Cost]] = defaultdict(list)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "project"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
        shutil.copytree(ROOT / "data", folder / "data")
        (folder / ".venv").symlink_to(ROOT / ".venv")
        time_command("make repro STUDY=0", folder)  # makes Prefect's database and MLflow's store
        for number in tqdm(range(rounds), "rounds", disable=None):
            for name, cost in time_round(folder, number):
                costs[name].append(cost)
            costs[TUTORIAL].append((EPOCHS * tutorial_seconds(batches), float("nan")))
    print(f"\n{os.cpu_count()} cores, PyTorch {torch.__version__}\n")
    print("| what | seconds | CPU seconds |")
    print("| --- | --- | --- |")
    for name, its in costs.items():
        seconds, cpu = (statistics.median(column) for column in zip(*its, strict=True))
        print(f"| {name} | {seconds:.1f} | {'' if cpu != cpu else f'{cpu:.1f}'} |")
    faster = [t[0] / w[0] for t, w in zip(costs[TUTORIAL], costs[WHOLE], strict=True)]
    print(
        f"\nfrom data to certificate {statistics.median(faster):.2f} times as fast as the tutorial"
    )


if __name__ == "__main__":
    main()
