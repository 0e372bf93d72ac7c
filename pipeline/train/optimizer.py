"""Any optimizer of PyTorch with any of its schedules, by name, as a network's recipe asks."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.core.params import Recipe
from pipeline.train.step import Step

# They need more than values: functions, other schedules or a metric.
NOT_BY_NAME = {
    "ChainedScheduler", "LambdaLR", "MultiplicativeLR", "ReduceLROnPlateau", "SequentialLR",
}  # fmt: skip


def trainer_of(
    network: nn.Module, recipe: Recipe
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[], None]]:
    """Return two functions: one trains the network on a batch (B, …) with its labels (B,) and
    returns the mean loss (); one ends an epoch.

    Raises:
        ValueError: PyTorch has no such optimizer or schedule, or refuses its options.
    """
    # Only `backward` calls these hooks.
    hooked = any(parameter._post_accumulate_grad_hooks for parameter in network.parameters())
    plain = not (recipe.optimizer_options or recipe.schedule or hooked)
    if recipe.optimizer == "SGD" and plain:
        step = Step(network)  # without PyTorch's compiler
        return lambda x, labels: step(x, labels, recipe.lr), lambda: None
    optimizer = optimizer_of(network.parameters(), recipe)
    schedule = schedule_of(optimizer, recipe) if recipe.schedule else None
    if schedule:
        trial = schedule_of(optimizer_of([nn.Parameter(torch.zeros(1, 1))], recipe), recipe)
        with refusing("train.schedule", recipe.schedule, recipe.schedule_options):
            trial.optimizer.step(lambda: torch.zeros(()))  # or PyTorch would warn
            for _ in range(recipe.epochs):
                trial.step()

    network.train()

    def train(x: Tensor, labels: Tensor) -> Tensor:
        def loss() -> Tensor:
            optimizer.zero_grad()
            mean = cross_entropy(network(x), labels)
            mean.backward()
            return mean

        if not network.training:  # after an evaluation
            network.train()
        return optimizer.step(loss).detach()

    return train, schedule.step if schedule else lambda: None


def optimizer_of(parameters: Iterable[nn.Parameter], recipe: Recipe) -> Any:
    """Return the recipe's optimizer of parameters, or raise what `create` raises."""
    return create(
        named(torch.optim, torch.optim.Optimizer),
        "train.optimizer",
        recipe.optimizer,
        recipe.optimizer_options,
        {"params": parameters, "lr": recipe.lr},
    )


def schedule_of(optimizer: Any, recipe: Recipe) -> Any:
    """Return the recipe's schedule of an optimizer, or raise what `create` raises."""
    schedules = named(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler)
    return create(
        {name: kind for name, kind in schedules.items() if name not in NOT_BY_NAME},
        "train.schedule",
        str(recipe.schedule),
        recipe.schedule_options,
        {"optimizer": optimizer},
    )


def named(module: ModuleType, base: type) -> dict[str, type]:
    """Return the public classes of a module that have a base class, by name."""
    return {
        name: kind
        for name, kind in sorted(vars(module).items())
        if inspect.isclass(kind) and issubclass(kind, base) and kind is not base and name[0] != "_"
    }


def create(
    classes: Mapping[str, type],
    param: str,
    name: str,
    options: dict[str, Any],
    given: dict[str, Any],
) -> Any:
    """Return an instance of the class that a parameter names, made with what is given to each of
    them and with options.

    Raises:
        ValueError: there is no such class, or it refuses the options.
    """
    if name not in classes:
        raise ValueError(f"{param} must be one of {', '.join(classes)}, got {name!r}")
    allowed = [
        option for option in inspect.signature(classes[name]).parameters if option not in given
    ]
    unknown = ", ".join(options.keys() - set(allowed))
    if unknown:
        raise ValueError(f"{param}_options has {unknown}, but {name} takes {', '.join(allowed)}")
    with refusing(param, name, options):
        return classes[name](**given, **options)


@contextmanager
def refusing(param: str, name: str | None, options: dict[str, Any]) -> Iterator[None]:
    """Let an error of an optimizer or a schedule say which parameter it comes from."""
    try:
        yield
    except Exception as error:  # of any kind, by the class
        raise ValueError(f"{param}_options = {options}: {name} refuses: {error!r}") from error
