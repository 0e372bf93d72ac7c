"""Benchmarks the server against its peers and its limits: `python -m bench.serving`.

Each server runs on one core and wrk on another. MLServer and KServe's SDK have environments of
their own in .bench/, and Triton, which runs ONNX Runtime by its Python backend, in .triton/. The
limits are uvicorn with a constant response ("floor") and ONNX Runtime alone ("bare").
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import mlflow
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from tqdm import tqdm

from bench.peers import triton
from pipeline.core import files
from pipeline.core.files import ROOT
from pipeline.core.inference import Request, binary_request, json_request
from pipeline.core.params import load_params
from pipeline.data.load import load_dataset

FOLDER = ROOT / ".bench"
PEERS = ROOT / "bench" / "peers"
INFER = "/v2/models/batchnorm_mlp/infer"
REQUIREMENTS = {
    "mlserver": ["mlserver==1.7.1", "onnxruntime", "numpy"],
    "kserve": ["kserve==0.21.0", "onnxruntime", "numpy"],
}
BARE = """
import sys, time, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
images = numpy.load(sys.argv[2])[: int(sys.argv[3])]
outputs = ["logits", "probabilities"]
end, count = time.perf_counter() + float(sys.argv[4]), 0
while time.perf_counter() < end:
    session.run(outputs, {"images": images})
    count += 1
print(count / float(sys.argv[4]))
"""


def mlflow_request(images: np.ndarray) -> Request:
    """Return a request in MLflow's own format."""
    body = {"inputs": {"images": images.tolist()}}
    return Request(json.dumps(body).encode(), {"Content-Type": "application/json"})


def write_script(name: str, request: Request) -> Path:
    """Write the Lua script that makes wrk repeat the request, and return its path."""
    body, path = FOLDER / f"{name}.body", FOLDER / f"{name}.lua"
    body.write_bytes(request.body)
    lines = [f'wrk.method = "POST"\nwrk.body = io.open("{body}", "rb"):read("*a")']
    lines += [f'wrk.headers["{key}"] = "{value}"' for key, value in request.headers.items()]
    path.write_text("\n".join(lines))
    return path


def environment(name: str) -> Path:
    """Return the Python of a peer's environment, creating it if missing."""
    folder = FOLDER / name
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        subprocess.run(["uv", "venv", "--quiet", "--clear", str(folder)], check=True)
        install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*install, *REQUIREMENTS[name]], check=True)
        done.touch()
    return python


def commands(model: Path) -> dict[str, tuple[list[str | Path], str]]:
    """Return each server's command, with PORT for its port, and its readiness path."""
    mlflow_model, settings = FOLDER / "mlflow-model", FOLDER / "mlserver-model"
    shutil.rmtree(mlflow_model, ignore_errors=True)
    images = TensorSpec(np.dtype(np.uint8), (-1, 28, 28), "images")
    signature = ModelSignature(Schema([images]))
    mlflow.onnx.save_model(onnx.load(model), mlflow_model, signature=signature)
    settings.mkdir(exist_ok=True)
    parameters = {"uri": str(model)}
    runtime = {"name": "batchnorm_mlp", "implementation": "mlserver_runtime.OnnxRuntime"}
    (settings / "model-settings.json").write_text(json.dumps(runtime | {"parameters": parameters}))
    shutil.copy(PEERS / "mlserver_runtime.py", settings)
    mlserver = environment("mlserver").parent / "mlserver"
    python, ready = sys.executable, "/v2/health/ready"
    triton.install()
    repository = FOLDER / "repository"
    subprocess.run([python, "-m", "serve.deploy", repository, "--model", model], check=True)
    triton_serve: list[str | Path] = [
        python,
        "-m",
        "bench.peers.triton",
        repository,
        "--http-port",
        "PORT",
    ]
    mlflow_serve = [python, "-m", "mlflow", "models", "serve", "--model-uri", str(mlflow_model)]
    serve: list[str | Path] = [python, "-m", "serve", "--model", model, "--port", "PORT"]
    return {
        "floor": ([python, PEERS / "floor.py", "PORT"], "/"),
        "ours": (serve, ready),
        "sampling": ([*serve, "--sample", "2048"], ready),
        "mlflow": ([*mlflow_serve, "--env-manager", "local", "--port", "PORT"], "/ping"),
        "mlserver": ([mlserver, "start", settings], ready),
        "kserve": ([environment("kserve"), PEERS / "kserve_server.py", "PORT", model], ready),
        "triton": (triton_serve, ready),
    }


@contextmanager
def running(command: list[str | Path], ready: str, port: int) -> Iterator[str]:
    """Start a server on core 0, yield its address once it is ready, and stop it on exit."""
    words = [str(port) if word == "PORT" else str(word) for word in command]
    variables = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(port + 100),
        "MLSERVER_METRICS_PORT": str(port + 200),
        "MLSERVER_PARALLEL_WORKERS": "0",
    }
    address = f"http://127.0.0.1:{port}"
    with (FOLDER / f"{port}.log").open("w") as log:
        server = subprocess.Popen(
            ["taskset", "--cpu-list", "0", *words],
            cwd=ROOT,
            env=os.environ | variables,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and server.poll() is None:
            try:
                httpx.get(address + ready).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        else:
            raise RuntimeError(f"{words} did not start: see {log.name}")
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def wrk(url: str, script: Path, connections: int, duration_s: int) -> dict[str, float]:
    """Run wrk on core 1; return requests per second, and the p50 and p99 latency in ms."""
    command = ["taskset", "--cpu-list", "1", "wrk", "-t1", f"-c{connections}"]
    command += [f"-d{duration_s}s", "--latency", "-s", str(script), url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(f"{url} returned errors:\n{text}")
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    figures = {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])}  # type: ignore[index]
    for name in ("50", "99"):
        value, unit = re.search(rf"{name}%\s+([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
        figures[f"p{name}"] = float(value) * scale[unit]
    return figures


def bare_rate(model: Path, images: Path, batch: int, duration_s: int) -> float:
    """Return the batches per second of ONNX Runtime alone on core 0."""
    command = ["taskset", "--cpu-list", "0", sys.executable, "-c", BARE]
    command += [str(model), str(images), str(batch), str(duration_s)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(model: Path, rounds: int, duration_s: int) -> dict[str, list[dict[str, float]]]:
    """Return the figures of every contestant, one entry per round."""
    images = load_dataset().test_images[:256]
    np.save(FOLDER / "images.npy", images)
    one = images[:1]
    contestants = {
        "floor, JSON": ("floor", "/", json_request(one), 16),
        "ours, JSON": ("ours", INFER, json_request(one), 16),
        "ours with a sample, JSON": ("sampling", INFER, json_request(one), 16),
        "floor, binary": ("floor", "/", binary_request(one), 16),
        "ours, binary": ("ours", INFER, binary_request(one), 16),
        "ours with a sample, binary": ("sampling", INFER, binary_request(one), 16),
        "Triton 2.51, Python backend, JSON": ("triton", INFER, json_request(one), 16),
        "Triton 2.51, Python backend, binary": ("triton", INFER, binary_request(one), 16),
        "MLServer": ("mlserver", INFER, json_request(one), 16),
        "KServe SDK": ("kserve", INFER, json_request(one), 16),
        "mlflow models serve": ("mlflow", "/invocations", mlflow_request(one), 16),
        "ours, 64": ("ours", INFER, binary_request(images[:64]), 4),
        "ours, 256": ("ours", INFER, binary_request(images), 4),
        "floor, 64": ("floor", "/", binary_request(images[:64]), 4),
        "floor, 256": ("floor", "/", binary_request(images), 4),
    }
    figures: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        addresses = {
            name: stack.enter_context(running(command, ready, 18080 + number))
            for number, (name, (command, ready)) in enumerate(commands(model).items())
        }
        scripts = {
            name: write_script(name, request) for name, (_, _, request, _) in contestants.items()
        }
        for _ in tqdm(range(rounds), "rounds", disable=None):
            for name, (server, path, _, connections) in contestants.items():
                found = wrk(addresses[server] + path, scripts[name], connections, duration_s)
                figures.setdefault(name, []).append(found)
            for batch in (64, 256):
                rate = bare_rate(model, FOLDER / "images.npy", batch, duration_s)
                figures.setdefault(f"bare, {batch}", []).append({"rate": rate})
    return figures


def main() -> None:
    """Run the benchmark and print two tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: 5)")
    parser.add_argument("--duration", type=int, default=3, help="seconds per load (default: 3)")
    arguments = parser.parse_args()
    for program in ("wrk", "taskset"):
        if not shutil.which(program):
            sys.exit(f"skipped: {program} not found: run `apt-get install wrk util-linux`")
    if (os.cpu_count() or 1) < 2:
        sys.exit("skipped: needs two cores, one for the server and one for the load")
    FOLDER.mkdir(exist_ok=True)
    model = files.require(load_params().export.model, "export")
    figures = measure(model, arguments.rounds, arguments.duration)

    def median(name: str, figure: str) -> float:
        return statistics.median(found[figure] for found in figures[name])

    def ratio(name: str, other: str) -> float:
        pairs = zip(figures[name], figures[other], strict=True)
        return statistics.median(a["rate"] / b["rate"] for a, b in pairs)

    print("| one image per request, 16 connections | requests/s | relative to floor | p50 | p99 |")
    print("| --- | --- | --- | --- | --- |")
    for name in figures:
        if "64" not in name and "256" not in name:
            floor = "floor, binary" if "binary" in name else "floor, JSON"
            latencies = f"{median(name, 'p50'):.2f} ms | {median(name, 'p99'):.2f} ms"
            rate = f"{median(name, 'rate'):,.0f}"
            print(f"| {name} | {rate} | {ratio(name, floor):.2f} | {latencies} |")
    for name in ("MLServer", "Triton 2.51, Python backend, JSON"):
        print(f"\nours, JSON: {ratio('ours, JSON', name):.1f} times the rate of {name}")
    for kind in ("JSON", "binary"):
        sampled = ratio(f"ours with a sample, {kind}", f"ours, {kind}")
        print(f"\nours with a sample of 2,048 rows, {kind}: {sampled:.2f} times the rate without")
    print()
    print(
        "| images/s, binary, 4 connections | ours | ONNX Runtime alone | HTTP alone | "
        "ours / ONNX Runtime | ours / both in sequence |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for batch in (64, 256):
        ours, bare, floor = f"ours, {batch}", f"bare, {batch}", f"floor, {batch}"
        rates = [f"{batch * median(name, 'rate'):,.0f}" for name in (ours, bare, floor)]
        both = ratio(ours, bare) + ratio(ours, floor)
        print(f"| {batch} | {' | '.join(rates)} | {ratio(ours, bare):.2f} | {both:.2f} |")


if __name__ == "__main__":
    main()
