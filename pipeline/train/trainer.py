"""Trains one network in a process of its own: `python -m pipeline.train.trainer KEY RECIPE`.

Writes artifacts/partial/<key>.safetensors, and prints each epoch, and then the answers to the test
images, as lines of JSON. The stage passes the parameters that it records, since those in
params.yaml may change in the meantime.
"""

import argparse
import json
import sys
import traceback
from typing import Any

import torch

from models import NETWORKS
from pipeline.core import files
from pipeline.core.params import Recipe
from pipeline.core.weights import restored, weights_of
from pipeline.data.load import load_dataset
from pipeline.data.tensors import logits_of, scale_pixels
from pipeline.tracking.record import now_ms
from pipeline.train.loop import initial_network, train


def main() -> None:
    """Train the named network."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train.trainer", description=__doc__)
    parser.add_argument("key", choices=NETWORKS, help="the network to train")
    parser.add_argument("recipe", type=Recipe.model_validate_json, help="as JSON")
    arguments = parser.parse_args()
    key, recipe = arguments.key, arguments.recipe
    torch.set_num_threads(recipe.threads)
    with files.locked(f"train-{key}"):  # a killed pipeline may leave a trainer behind
        try:
            dataset, network = load_dataset(), initial_network(key, recipe.seed)
            for row in train(network, dataset, recipe):
                report({"epoch": row, "time_ms": now_ms()})
            weights, test_x = weights_of(network.cpu()), scale_pixels(dataset.test_images)
            logits = logits_of(network.eval(), test_x)
            if not torch.allclose(logits_of(restored(key, weights), test_x), logits, 1e-3, 1e-3):
                raise ValueError(
                    "with the saved weights, forward returns other logits: keep what it uses as "
                    "parameters or buffers"
                )
        except (OSError, ValueError, FloatingPointError) as error:
            sys.exit(f"error: {key}: {error}")
        except Exception as error:  # of the network
            traceback.print_exc()
            sys.exit(f"error: {key}: {type(error).__name__}: {error}")
        files.write_atomically(files.partial_path(key, "safetensors"), weights)
        labels = dataset.test_labels.tolist()
        report({"answers": list(zip(labels, logits.argmax(dim=1).tolist(), strict=True))})


def report(values: dict[str, Any]) -> None:
    """Print values as a line of JSON, also if a network has printed a part of a line."""
    print(f"\n{json.dumps(values)}", flush=True)


if __name__ == "__main__":
    main()
