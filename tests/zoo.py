"""Networks unlike the pipeline's own, such as people bring."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import NETWORKS, Network


class ConvNet(nn.Module):
    """Convolutions with batch normalization, pooling and dropout."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3), nn.BatchNorm2d(channels)
        self.pool, self.dropout = nn.MaxPool2d(2), nn.Dropout(0.2)
        self.fc = nn.Linear(channels * 36, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn1(self.conv1(images.unsqueeze(1)))))
        x = self.pool(F.relu(self.bn2(self.conv2(x))))
        return self.fc(self.dropout(x.flatten(1)))


class ChannelsLast(ConvNet):
    """The same with its weights in another layout."""

    def __init__(self) -> None:
        super().__init__()
        self.to(memory_format=torch.channels_last)


class Attention(nn.Module):
    """Four by four patches that attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(49, 32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm, self.fc = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        patches = images.reshape(-1, 4, 7, 4, 7).transpose(2, 3).reshape(-1, 16, 49)
        x = self.embed(patches)
        attended, _ = self.attention(x, x, x, need_weights=False)
        return self.fc(self.norm(x + attended).mean(dim=1))


class Residual(nn.Module):
    """One PReLU in two places, and running statistics that are plain averages."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.bn1 = nn.Linear(784, 32), nn.BatchNorm1d(32, momentum=None)
        self.fc2, self.bn2 = nn.Linear(32, 32), nn.BatchNorm1d(32, momentum=None)
        self.act = nn.PReLU()
        self.same_act = self.act
        self.fc3 = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.act(self.bn1(self.fc1(images.flatten(1))))
        return self.fc3(x + self.same_act(self.bn2(self.fc2(x))))


class Shared(nn.Module):
    """A layer in two places, of which one is followed by batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.bn = nn.Linear(784, 32), nn.Linear(32, 32), nn.BatchNorm1d(32)
        self.fc3 = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.fc1(images.flatten(1)))
        return self.fc3(F.relu(self.fc2(F.relu(self.bn(self.fc2(x))))))


class Tied(nn.Module):
    """Two layers with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.fc3.weight = self.fc2.weight
        self.fc4 = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.fc1(images.flatten(1)))
        return self.fc4(F.relu(self.fc3(F.relu(self.fc2(x)))))


class RandomDrops(nn.Module):
    """A layer that is left out at random while the network trains."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.fc1(images.flatten(1)))
        if not self.training or random.random() < 0.5:  # noqa: S311
            x = x + F.relu(self.fc2(x))
        return self.fc3(x)


class Counter(nn.Module):
    """A layer that is used from the tenth step on, which a buffer counts."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        steps = self.get_buffer("steps")
        if self.training:
            steps += 1
        x = F.relu(self.fc1(images.flatten(1)))
        if steps >= 10:
            x = x + F.relu(self.fc2(x))
        return self.fc3(x)


class Tokens(nn.Module):
    """Batch normalization of another axis than the linear layer before it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm = nn.Linear(28, 28), nn.BatchNorm1d(28)
        self.fc2 = nn.Linear(784, 10)
        nn.init.uniform_(self.norm.get_buffer("running_var"), 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc2(self.norm(self.fc1(images)).flatten(1))


class Untraced(nn.Module):
    """A lazy layer, a state as large as the batch, and a check of the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.LazyLinear(16)
        self.out = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        if images.dim() != 3:
            raise ValueError("one channel, please")
        state = torch.zeros(images.shape[0], 16, dtype=images.dtype)
        return self.out(torch.tanh(state + self.fc(images.flatten(1))))


class FrozenNorm(ConvNet):
    """A batch normalization that stays in eval mode, and gradients that a hook clips."""

    def __init__(self) -> None:
        super().__init__()
        self.fc.weight.register_post_accumulate_grad_hook(self.clip)

    @staticmethod
    def clip(parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad.clamp_(-1e-3, 1e-3)

    def train(self, mode: bool = True) -> "FrozenNorm":
        super().train(mode)
        self.bn1.eval()
        self.dropout.eval()
        return self


ACCEPTED = {
    kind.__name__: kind
    for kind in (
        *(ConvNet, ChannelsLast, Attention, Residual, Shared, Tied, RandomDrops, Counter),
        *(Tokens, Untraced, FrozenNorm),
    )
}


class PlainCounter(Counter):
    """The same with a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, images: Tensor) -> Tensor:
        self.count += self.training
        self.get_buffer("steps").fill_(self.count)
        return super().forward(images)


class AlwaysDrops(RandomDrops):
    """A layer that is left out at random, in eval mode too."""

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.fc1(images.flatten(1)))
        if random.random() < 0.5:  # noqa: S311
            x = x + F.relu(self.fc2(x))
        return self.fc3(x)


class ByValue(nn.Module):
    """A path that depends on the images."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.fc(images.flatten(1))
        return logits if images.mean() > -2 else -logits


class WrongShape(ByValue):
    """Logits of another shape."""

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.flatten(1))[:, :5]


class OfTheBatch(ByValue):
    """Logits that depend on the other images."""

    def forward(self, images: Tensor) -> Tensor:
        return self.fc((images - images.mean(0)).flatten(1))


class Dictionary(ByValue):
    """Logits by name."""

    def forward(self, images: Tensor) -> Tensor:
        return {"logits": self.fc(images.flatten(1))}  # type: ignore[return-value]


class Endless(ByValue):
    """Logits that are infinite."""

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.flatten(1)) / 0


class ListCounter(ByValue):
    """A counter where nobody sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [0]

    def forward(self, images: Tensor) -> Tensor:
        self.steps[0] += self.training
        logits = self.fc(images.flatten(1))
        return -logits if self.steps[0] > 5 else logits


# What a refused network cannot do, and a part of why.
REFUSED = {
    PlainCounter: ("be trained", "forward counts in count"),
    AlwaysDrops: ("classify images", "other logits at another call"),
    ByValue: ("be exported", "data-dependent"),
    OfTheBatch: ("classify images", "without the other images"),
    Dictionary: ("classify images", "returns a dict, and not a tensor of logits"),
    Endless: ("classify images", "NaN or infinite"),
    WrongShape: ("classify images", r"\(8, 5\)"),
}


def bring(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> str:
    """Add a network to the table, and return its key."""
    row = Network(f"{kind.__module__}:{kind.__name__}", kind.__name__, "#009E73", "^")
    monkeypatch.setitem(NETWORKS, "mine", row)
    return "mine"
