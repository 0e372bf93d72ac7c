"""Shows what the server's drift score says of real and spoilt images: `python -m bench.drift`.

Each row is of many random windows; Fashion-MNIST is read where Debian's package
dataset-fashion-mnist puts it.
"""

import argparse
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from pipeline.artifacts import MODEL, require
from pipeline.data import load_mnist
from serve.drift import WINDOW, drift_score
from serve.engine import Engine

FASHION = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
WINDOWS = (64, 128, 256, 512, 1024)


def image_sets() -> dict[str, np.ndarray]:
    """Return sets of images (N, 28, 28) uint8 by name."""
    mnist = load_mnist()
    images = mnist.test_images
    noise = np.random.default_rng(0).normal(0, 50, images.shape)

    def each(change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return np.stack([change(image) for image in images])

    sets = {
        "training set": mnist.train_images[:10_000],
        "test set": images,
        "shifted by 2 pixels": np.roll(images, 2, axis=2),
        "shifted by 4 pixels": np.roll(images, 4, axis=2),
        "blurred (σ = 1 pixel)": each(lambda image: ndimage.gaussian_filter(image, 1)),
        "noisy (σ = 50)": np.clip(images + noise, 0, 255).astype(np.uint8),
        "dimmed to 60 %": (images * 0.6).astype(np.uint8),
        "rotated by 30°": each(lambda image: ndimage.rotate(image, 30, reshape=False, order=1)),
        "sevens only": images[mnist.test_labels == 7],
        "inverted": 255 - images,
    }
    if FASHION.is_file():
        pixels = np.frombuffer(gzip.decompress(FASHION.read_bytes()), np.uint8, offset=16)
        sets["Fashion-MNIST"] = pixels.reshape(-1, 28, 28)
    else:
        print("Fashion-MNIST is left out: apt-get install dataset-fashion-mnist\n")
    return sets


def standardised_units(engine: Engine, images: np.ndarray) -> np.ndarray:
    """Return the first layer's units as the training would have them at mean 0 and variance 1."""
    units = engine.infer(images)["z1"]
    mean, std = (np.array(json.loads(engine.metadata[name])) for name in ("unit_mean", "unit_std"))
    return (units - mean) / std  # (N, units)


def scores(units: np.ndarray, window: int, count: int) -> np.ndarray:
    """Return the scores of `count` random windows."""
    random = np.random.default_rng(0)
    drawn = (units[random.choice(len(units), window, replace=False)] for _ in range(count))
    return np.array([drift_score(values.mean(0), values.var(0)) for values in drawn])


def main() -> None:
    """Print the scores by set of images, then the choice of the window."""
    parser = argparse.ArgumentParser(prog="python -m bench.drift", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="windows a row (default: 1000)")
    count = parser.parse_args().count
    engine = Engine(require(MODEL, "export"))
    sets = image_sets()
    units = {name: standardised_units(engine, images)
             for name, images in tqdm(sets.items(), "image sets", disable=None)}  # fmt: skip

    print(f"| images, windows of {WINDOW} | median | from | to |")
    print("| --- | --- | --- | --- |")
    for name, values in units.items():
        found = scores(values, WINDOW, count)
        print(f"| {name} | {np.median(found):.3f} | {found.min():.3f} | {found.max():.3f} |")

    print("\n| window | largest of the test set | smallest of shifted by 2 pixels |")
    print("| --- | --- | --- |")
    for window in WINDOWS:
        quiet = scores(units["test set"], window, count).max()
        print(f"| {window} | {quiet:.3f} | "
              f"{scores(units['shifted by 2 pixels'], window, count).min():.3f} |")  # fmt: skip


if __name__ == "__main__":
    main()
