import pytest
import torch
from torch.nn.functional import cross_entropy

from models import NETWORKS
from pipeline.core.params import Recipe
from pipeline.train.loop import initial_network
from pipeline.train.optimizer import trainer_of
from tests.zoo import ACCEPTED, bring

SGD = Recipe(epochs=5, batch_size=16, lr=0.05, seed=0, device="cpu")
MOMENTUM = {"optimizer_options": {"momentum": 0.9}}
ADAMW = {
    "lr": 0.001,
    "optimizer": "AdamW",
    "optimizer_options": {"betas": [0.8, 0.99]},
    "schedule": "CosineAnnealingLR",
    "schedule_options": {"T_max": 5},
}
RECIPES = {
    "SGD": SGD,
    "momentum": SGD.model_copy(update=MOMENTUM),
    "AdamW": SGD.model_copy(update=ADAMW),
}


def plain_pytorch(key: str, name: str, x: torch.Tensor, labels: torch.Tensor) -> torch.nn.Module:
    """Return the network after 50 steps in float64, ten an epoch, as one writes them in PyTorch."""
    network = initial_network(key, 0).double().train()
    optimizer: torch.optim.Optimizer
    if name == "AdamW":
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.001, betas=(0.8, 0.99))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
    else:
        momentum = 0.9 if name == "momentum" else 0.0
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=momentum)
        schedule = None
    for step in range(50):
        optimizer.zero_grad()
        cross_entropy(network(x[step]), labels[step]).backward()
        optimizer.step()
        if schedule and step % 10 == 9:
            schedule.step()
    return network


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ["BatchNormMLP", *sorted(ACCEPTED.keys() - {"Untraced"})])
def test_fifty_steps_are_those_of_plain_pytorch(
    name: str, recipe: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "batchnorm_mlp" if name == "BatchNormMLP" else bring(ACCEPTED[name], monkeypatch)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 16, 28, 28, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (50, 16), generator=generator)
    expected = plain_pytorch(key, recipe, x, labels).state_dict()
    network = initial_network(key, 0).double().to(device)
    train, end_epoch = trainer_of(network, RECIPES[recipe])
    for step in range(50):
        train(x[step].to(device), labels[step].to(device))
        if step % 10 == 9:
            end_epoch()
    torch.testing.assert_close(network.cpu().state_dict(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "Adamm"}, r"^train\.optimizer must be one of .*AdamW,.*, got 'Adamm'$"),
        ({"optimizer_options": {"moment": 1}}, r"SGD takes momentum, .*nesterov"),
        ({"optimizer_options": {"lr": 1}}, r"^train\.optimizer_options has lr, but SGD takes mom"),
        ({"optimizer_options": {"momentum": -1.0}}, "SGD refuses: .*Invalid momentum value: -1.0"),
        ({"schedule": "LambdaLR"}, r"^train\.schedule must be one of .*CosineAnnealingLR"),
        ({"schedule": "StepLR"}, "StepLR refuses: .*step_size"),
        ({"schedule": "StepLR", "schedule_options": {"gama": 1}}, "StepLR takes step_size, gamma"),
        (
            {"schedule": "OneCycleLR", "schedule_options": {"max_lr": 1.0, "total_steps": 2}},
            "OneCycleLR refuses: .*Tried to step 3 times",
        ),
    ],
)
def test_what_pytorch_does_not_have_is_an_error_that_lists_what_it_has(
    changes: dict[str, object], message: str
) -> None:
    network = NETWORKS["simple_mlp"].build()
    with pytest.raises(ValueError, match=message):
        trainer_of(network, SGD.model_copy(update=changes))


@pytest.mark.parametrize("name", ["LBFGS", "Adafactor", "RMSprop"])
def test_any_optimizer_lowers_the_loss(name: str) -> None:
    network = initial_network("simple_mlp", 0)
    train, _ = trainer_of(network, SGD.model_copy(update={"lr": 0.01, "optimizer": name}))
    x, labels = torch.randn(16, 28, 28), torch.arange(16) % 10
    first, *_, last = [train(x, labels).item() for _ in range(10)]
    assert last < first
