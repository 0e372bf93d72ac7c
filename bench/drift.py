"""Measures how soon the server notices drift, and how seldom it errs: `python -m bench.drift`.

The streams are drawn, with replacement, from the test images that the alarm is not calibrated on.
In their own order these images raise alarms too, since MNIST's are sorted by how easy they are. The
peer is the alarm that this server had before: a window of 256 images whose first layer's units have
other moments than in training, by the mean Kullback-Leibler divergence of normal distributions.
"""

import argparse

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from pipeline.core import files
from pipeline.core.params import load_params
from pipeline.data.corruptions import CORRUPTIONS
from pipeline.data.dataset import CLASS_NAMES
from pipeline.data.load import load_dataset
from pipeline.data.tensors import scale_pixels
from pipeline.export.build import UNSEEN, load_network
from serve.model.drift import ROWS, Alarm
from serve.model.engine import Engine

WINDOW, LIMIT = 256, 0.03  # of the peer
CORRUPTED, ONE_CLASS, CLEAN = 10_000, 100_000, 1_000_000  # images per stream
QUIET = {"test images": CLEAN, "half sevens": ONE_CLASS} | {
    f"only {name}": ONE_CLASS for name in CLASS_NAMES
}


def sources() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images (N, 28, 28) uint8 and labels to draw streams from, by name."""
    dataset = load_dataset()
    images, labels = dataset.test_images[UNSEEN], dataset.test_labels[UNSEEN]
    sevens = np.flatnonzero(labels == 7)
    half = np.concatenate([np.arange(len(labels)), np.resize(sevens, len(labels))])
    of_class = {f"only {name}": labels == label for label, name in enumerate(CLASS_NAMES)}
    mixes = {"test images": np.arange(len(labels)), "half sevens": half} | of_class
    found = {name: (images[rows], labels[rows]) for name, rows in mixes.items()}
    return found | {name: (change(images), labels) for name, change in CORRUPTIONS.items()}


def standardized_units(network: nn.Module, images: np.ndarray) -> np.ndarray | None:
    """Return the units (N, units) after the first batch normalization, which are normal with mean 0
    and standard deviation 1 in training; None without one."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    if not norms:
        return None
    outputs: list[torch.Tensor] = []
    hook = norms[0].register_forward_hook(lambda *call: outputs.append(call[2]))
    with torch.inference_mode(), hook:
        network(scale_pixels(images))
        return ((outputs[0] - norms[0].bias) / norms[0].weight.abs()).numpy()


def first_alarm(ranks: np.ndarray) -> int | None:
    """Return after how many rows the server's alarm rings first; ranks: (kinds, N)."""
    alarm = Alarm()
    ends = range(ROWS, ranks.shape[1] + 1, ROWS)
    return next((end for end in ends if alarm.add(ranks[:, end - ROWS : end])), None)


def first_window(units: np.ndarray) -> int | None:
    """Return after how many rows the first window exceeds the limit."""
    for end in range(WINDOW, len(units) + 1, WINDOW):
        window = units[end - WINDOW : end]
        mean, variance = window.mean(axis=0), window.var(axis=0)
        if np.mean(mean**2 + variance - 1 - np.log(variance)) / 2 > LIMIT:
            return end
    return None


def summary(found: list[int | None], rows: int) -> str:
    """Return the median and the maximum of the first alarms."""
    rung = [end for end in found if end]
    if not rung:
        return f"none in {len(found)} × {rows:,}"
    some = "" if len(rung) == len(found) else f", in {len(rung)} of {len(found)}"
    return f"{np.median(rung):,.0f} (at most {max(rung):,}{some})"


def main() -> None:
    """Print a row per kind of stream."""
    parser = argparse.ArgumentParser(prog="python -m bench.drift", description=__doc__)
    parser.add_argument("--streams", type=int, default=20, help="of each kind (default: 20)")
    parser.add_argument("--network", default=load_params().export.network, help="by its key")
    arguments = parser.parse_args()
    engine = Engine.read(files.require(files.model_path(arguments.network), "export"))
    network, reference = load_network(arguments.network), engine.reference
    assert reference
    random = np.random.default_rng(0)
    heads = "accuracy", "images until the alarm", f"until a window of {WINDOW} exceeds {LIMIT}"
    print("| images |", " | ".join(heads), "|")
    print("| --- | --- | --- | --- |")
    for name, (images, labels) in tqdm(sources().items(), "streams", disable=None):
        outputs = engine.infer({"images": images})[reference.output]
        ranks, units = reference.ranks(outputs), standardized_units(network, images)
        accuracy = (outputs.argmax(axis=1) == labels).mean()
        rows = QUIET.get(name, CORRUPTED)
        ours, peers = [], []
        for _ in range(arguments.streams):
            stream = random.integers(0, len(images), rows)
            ours.append(first_alarm(ranks[:, stream]))
            if units is not None:
                peers.append(first_window(units[stream[:CORRUPTED]]))
        peer = summary(peers, CORRUPTED) if peers else ""
        print(f"| {name} | {accuracy:.1%} | {summary(ours, rows)} | {peer} |", flush=True)
        if name == "test images":
            alarms = Alarm().add(ranks)
            seen = f"{alarms} alarms in {len(images):,}"
            print(f"| {name}, in their order | {accuracy:.1%} | {seen} | |")


if __name__ == "__main__":
    main()
