"""Measures the server's drift score on original and corrupted images: `python -m bench.drift`.

Each row covers many random windows; Fashion-MNIST is read from Debian's package
dataset-fashion-mnist.
"""

import argparse
import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.data.load import load_dataset
from serve.model.drift import WINDOW, drift_score
from serve.model.engine import Engine

FASHION = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
WINDOWS = (64, 128, 256, 512, 1024)


def image_sets() -> dict[str, np.ndarray]:
    """Return image sets (N, 28, 28) uint8 by name."""
    dataset = load_dataset()
    images = dataset.test_images
    noise = np.random.default_rng(0).normal(0, 50, images.shape)

    def each(change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return np.stack([change(image) for image in images])

    sets = {
        "training set": dataset.train_images[:10_000],
        "test set": images,
        "shifted by 2 pixels": np.roll(images, 2, axis=2),
        "shifted by 4 pixels": np.roll(images, 4, axis=2),
        "blurred (σ = 1 pixel)": each(lambda image: ndimage.gaussian_filter(image, 1)),
        "noisy (σ = 50)": np.clip(images + noise, 0, 255).astype(np.uint8),
        "dimmed to 60%": (images * 0.6).astype(np.uint8),
        "rotated by 30°": each(lambda image: ndimage.rotate(image, 30, reshape=False, order=1)),
        "sevens only": images[dataset.test_labels == 7],
        "inverted": 255 - images,
    }
    if FASHION.is_file():
        pixels = np.frombuffer(gzip.decompress(FASHION.read_bytes()), np.uint8, offset=16)
        sets["Fashion-MNIST"] = pixels.reshape(-1, 28, 28)
    else:
        print("Fashion-MNIST skipped: run `apt-get install dataset-fashion-mnist`\n")
    return sets


def standardized_units(engine: Engine, images: np.ndarray) -> np.ndarray:
    """Return the first layer's units, standardized by their training statistics."""
    statistics = engine.statistics
    assert statistics
    units = engine.infer({"images": images})[statistics.tensor]
    return (units - statistics.mean) / statistics.std  # (N, units)


def scores(units: np.ndarray, window: int, count: int) -> np.ndarray:
    """Return the scores of `count` random windows of `window` images."""
    random = np.random.default_rng(0)
    drawn = (units[random.choice(len(units), window, replace=False)] for _ in range(count))
    return np.array([drift_score(values.mean(0), values.var(0)) for values in drawn])


def main() -> None:
    """Print the scores by image set, then by window size."""
    parser = argparse.ArgumentParser(prog="python -m bench.drift", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="windows per row (default: 1000)")
    count = parser.parse_args().count
    engine = Engine.read(files.require(load_params().export.model, "export"))
    if not engine.statistics:
        sys.exit(f"skipped: {engine.name} has no training statistics to measure drift by")
    sets = image_sets()
    units = {
        name: standardized_units(engine, images)
        for name, images in tqdm(sets.items(), "image sets", disable=None)
    }

    print(f"| images, windows of {WINDOW} | median | min | max |")
    print("| --- | --- | --- | --- |")
    for name, values in units.items():
        found = scores(values, WINDOW, count)
        print(f"| {name} | {np.median(found):.3f} | {found.min():.3f} | {found.max():.3f} |")

    print("\n| window | test set, max | shifted by 2 pixels, min |")
    print("| --- | --- | --- |")
    for window in WINDOWS:
        quiet = scores(units["test set"], window, count).max()
        shifted = scores(units["shifted by 2 pixels"], window, count).min()
        print(f"| {window} | {quiet:.3f} | {shifted:.3f} |")


if __name__ == "__main__":
    main()
