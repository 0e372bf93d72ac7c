"""Shows trainings as they run: a bar per network in a terminal, a line per epoch elsewhere."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from models import NETWORKS
from pipeline.core.history import Epoch

FORMAT = "{desc} {bar} {n_fmt}/{total_fmt} epochs{postfix}"  # the bar takes what width is left


def describe(row: Epoch, epochs: int) -> str:
    """Return the figures of one of that many epochs as text."""
    return (
        f"epoch {row.epoch}/{epochs}: train loss {row.train_loss:.4f}, "
        f"test loss {row.test_loss:.4f}, test accuracy {row.test_accuracy:.2%}"
    )


@contextmanager
def bars(epochs: Mapping[str, int]) -> Iterator[Callable[[str, Epoch | None], None]]:
    """Yield a function that shows the last epoch of a network's training, None at its start.

    epochs: of each network's training.
    """
    width = max(len(network.title) for network in NETWORKS.values())
    by_key = {
        key: tqdm(
            desc=f"{network.title:<{width}}",
            total=epochs[key],
            position=position,
            bar_format=FORMAT,
            dynamic_ncols=True,
            disable=None,
        )
        for position, (key, network) in enumerate(NETWORKS.items())
    }

    def show(key: str, row: Epoch | None) -> None:
        bar = by_key[key]
        if row and bar.disable:
            print(key, describe(row, epochs[key]), flush=True)
        elif row:
            bar.n = row.epoch
            bar.set_postfix_str(f"loss {row.train_loss:.4f}, accuracy {row.test_accuracy:.2%}")

    try:
        with logging_redirect_tqdm():  # log lines go above the bars
            logging.root.handlers[-1].setLevel(logging.WARNING)
            yield show
    finally:
        for bar in by_key.values():
            bar.close()
