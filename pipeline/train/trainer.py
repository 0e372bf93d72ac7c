"""Trains one network in a process of its own: `python -m pipeline.train.trainer KEY PARAMS`.

Writes artifacts/<key>/weights.safetensors and history.csv. The stage starts one per network, and
passes the parameters that it records: those in params.yaml may change before this process starts.
"""

import argparse
import sys
from collections.abc import Iterator

import torch
from safetensors.torch import save
from tqdm import tqdm

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import Epoch, write_history
from pipeline.core.params import TrainParams
from pipeline.data.load import load_dataset
from pipeline.train.loop import initial_network, train


def watch(key: str, epochs: Iterator[Epoch], total: int) -> list[Epoch]:
    """Collect the epochs, with a progress bar in a terminal and one line per epoch elsewhere."""
    history = []
    position = list(NETWORKS).index(key)
    with tqdm(epochs, key, total, position=position, disable=None, unit="epoch") as bar:
        for row in bar:
            history.append(row)
            figures = (
                f"train loss {row.train_loss:.4f}, test loss {row.test_loss:.4f}, "
                f"test accuracy {row.test_accuracy:.2%}"
            )
            bar.set_postfix_str(figures)
            if bar.disable:
                print(f"{key} epoch {row.epoch}/{total}: {figures}", flush=True)
    return history


def main() -> None:
    """Train the named network with one thread."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train.trainer", description=__doc__)
    parser.add_argument("key", choices=NETWORKS, help="the network to train")
    parser.add_argument("params", type=TrainParams.model_validate_json, help="as JSON")
    arguments = parser.parse_args()
    key, params = arguments.key, arguments.params
    torch.set_num_threads(1)
    with files.locked(f"train-{key}"):  # a killed pipeline may leave a trainer behind
        try:
            network = initial_network(key, params.seed)
            history = watch(key, train(network, load_dataset(), params), params.epochs)
        except (OSError, ValueError, FloatingPointError) as error:
            sys.exit(f"error: {key}: {error}")
        write_history(files.history_path(key), history)
        weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
        files.write_atomically(files.weights_path(key), save(weights))


if __name__ == "__main__":
    main()
