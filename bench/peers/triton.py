"""Runs a real Triton from the package index: `python -m bench.peers.triton REPOSITORY`.

nvidia-pytriton has Triton's C++ server with its Python backend, through which triton_backend.py
runs ONNX Runtime in the place of Triton's own backend. It is installed in .triton/ at the first
start. It needs Linux on x86-64 with glibc 2.35 and this Python's shared library.
"""

import argparse
import fcntl
import os
import shutil
import socket
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import onnxruntime

FOLDER = Path(__file__).resolve().parents[2] / ".triton"
REQUIREMENTS = ["nvidia-pytriton==0.7.0", "numpy<2", f"onnxruntime=={onnxruntime.__version__}"]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def install() -> Path:
    """Install Triton unless it is there; return the folder of its Python packages.

    Raises:
        OSError: it cannot be had; the message says why.
    """
    if not find_library(f"python{PYTHON}"):
        raise OSError(f"Triton needs libpython{PYTHON}.so: apt-get install libpython{PYTHON}")
    packages, done = FOLDER / f"lib/python{PYTHON}/site-packages", FOLDER / "installed"
    with FOLDER.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the block ends
        if not done.exists():
            _install(packages)
            done.touch()
    return packages


def _install(packages: Path) -> None:
    _call("uv", "venv", "--clear", "--python", sys.executable, FOLDER)
    _call("uv", "pip", "install", "--python", FOLDER / "bin" / "python", *REQUIREMENTS)
    server = packages / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    shutil.copy(stub, server / "backends" / "python")
    backend = server / "backends" / "onnxruntime"
    backend.mkdir()
    shutil.copy(Path(__file__).with_name("triton_backend.py"), backend / "model.py")


def _call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"Triton cannot be installed: {done.stderr.strip()}")


def start(repository: Path, http_port: int, grpc_port: int) -> subprocess.Popen[bytes]:
    """Start Triton on 127.0.0.1 with all models of a repository.

    Raises:
        OSError: it cannot be had.
    """
    packages = install()
    server = packages / "pytriton" / "tritonserver"
    command: list[str | Path] = [
        server / "bin" / "tritonserver",
        f"--model-repository={repository.resolve()}",
        "--backend-directory=backends",  # its shell would split an absolute path at a space
        "--disable-auto-complete-config",  # the repository has all that it needs
        "--http-address=127.0.0.1",
        f"--http-port={http_port}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc_port}",
        "--allow-metrics=false",
        "--log-info=false",
    ]
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "PATH": f"{FOLDER / 'bin'}:{os.environ['PATH']}",  # where its Python finds its packages
    }
    return subprocess.Popen(command, cwd=server, env=environment)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Serve a repository until stopped."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.triton", description=__doc__)
    parser.add_argument("repository", type=Path, help="the folder that serve.deploy wrote")
    parser.add_argument("--http-port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--grpc-port", type=int, default=8001, help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        triton = start(arguments.repository, arguments.http_port, arguments.grpc_port)
    except OSError as error:
        sys.exit(f"error: {error}")
    try:
        sys.exit(triton.wait())
    except KeyboardInterrupt:
        sys.exit(triton.wait())


if __name__ == "__main__":
    main()
