"""Trains one network in a process of its own: `python -m pipeline.train.trainer KEY PARAMS`.

Writes weights.safetensors, history.csv and answers/predictions.csv below artifacts/<key>/, and
prints each epoch as a line of JSON. The stage starts one per network, and passes the parameters
that it records: those in params.yaml may change before this process starts.
"""

import argparse
import json
import sys

import torch
from safetensors.torch import save

from models import NETWORKS
from pipeline.core import files
from pipeline.core.history import write_history, write_predictions
from pipeline.core.params import TrainParams
from pipeline.data.load import load_dataset
from pipeline.data.tensors import scale_pixels
from pipeline.train.loop import initial_network, predict, train


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
            dataset, network, history = load_dataset(), initial_network(key, params.seed), []
            for row in train(network, dataset, params):
                history.append(row)
                print(json.dumps(row._asdict()), flush=True)
        except (OSError, ValueError, FloatingPointError) as error:
            sys.exit(f"error: {key}: {error}")
        write_history(files.history_path(key), history)
        network.cpu()
        files.write_atomically(files.weights_path(key), save(network.state_dict()))
        predictions = predict(network, scale_pixels(dataset.test_images)).numpy()
        write_predictions(key, dataset.test_labels, predictions)


if __name__ == "__main__":
    main()
