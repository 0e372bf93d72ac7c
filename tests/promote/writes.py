"""Does something at a certain write to MLflow."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from mlflow import MlflowClient

WRITES = ("create_", "delete_", "log_", "set_", "update_")


@contextmanager
def at_write(number: int, action: Callable[[], object], after: bool = False) -> Iterator[list[str]]:
    """Call the action just before or after that write of the block; yield a list, which then has
    the name of the write."""
    done: list[str] = []
    count = itertools.count(1)

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def write(*arguments: object, **options: object) -> object:
            now = not done and next(count) == number
            if now:
                done.append(call.__name__)  # first: the action's own writes do not count
            if now and not after:
                action()
            result = call(*arguments, **options)
            if now and after:
                action()
            return result

        return write

    with pytest.MonkeyPatch.context() as patch:
        for name, call in list(vars(MlflowClient).items()):
            if name.startswith(WRITES):
                patch.setattr(MlflowClient, name, counted(call))
        yield done
