import pytest
import torch
from torch import Tensor, nn

from models import NETWORKS
from pipeline import step
from pipeline.artifacts import KEYS
from pipeline.study.ensemble import (
    Dropout,
    Layer,
    accuracy,
    batch_norm,
    gradients,
    predict,
    sgd_step,
)

CPU = torch.device("cpu")
LRS = (0.01, 0.03, 0.1)


def stack(networks: list[nn.Module], dtype: torch.dtype = torch.float32) -> list[Layer]:
    """The ensemble whose members are these networks."""
    layers = []
    for pairs in zip(*(step.layers(network) for network in networks), strict=True):
        weight = torch.stack([linear.weight.detach() for linear, _ in pairs])
        bias = torch.stack([linear.bias.detach()[:, None] for linear, _ in pairs])
        norm = batch_norm(*bias.shape[:2], CPU) if pairs[0][1] else None
        layers.append(Layer(weight.to(dtype), bias.to(dtype), norm))
    return layers


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of ten noisy patterns (64, 784) and their numbers (64,)."""
    random = torch.Generator().manual_seed(0)
    patterns = torch.randn(10, 784, generator=random)
    labels = torch.randint(10, (count, 64), generator=random)
    return [(patterns[y] + torch.randn(64, 784, generator=random), y) for y in labels]


@pytest.mark.parametrize("key", KEYS)
def test_after_100_updates_each_member_is_the_network_trained_alone(key: str) -> None:
    torch.manual_seed(0)
    alone = [NETWORKS[key]() for _ in LRS]
    ensemble = stack(alone)
    for x, labels in batches(100):
        losses = sgd_step(ensemble, x.T, labels, torch.tensor(LRS)[:, None, None])
        for network, lr, loss in zip(alone, LRS, losses, strict=True):
            expected = step.sgd_step(step.layers(network), x, labels, lr)
            assert loss.item() == pytest.approx(expected.item(), abs=1e-5)

    for layer, expected in zip(ensemble, stack(alone), strict=True):
        torch.testing.assert_close(layer.weight, expected.weight, rtol=0, atol=1e-5)
        torch.testing.assert_close(layer.bias, expected.bias, rtol=0, atol=1e-5)
    for layer, pairs in zip(ensemble, zip(*map(step.layers, alone), strict=True), strict=True):
        if layer.norm:
            for ours, theirs in (
                ("gamma", "weight"),
                ("beta", "bias"),
                ("running_mean", "running_mean"),
                ("running_var", "running_var"),
            ):
                expected = torch.cat([getattr(norm, theirs).detach() for _, norm in pairs])
                torch.testing.assert_close(
                    getattr(layer.norm, ours), expected, rtol=0, atol=1e-5, msg=ours
                )
    x, labels = batches(1)[0]
    logits = torch.stack([network.eval()(x).T for network in alone])
    torch.testing.assert_close(predict(ensemble, x.T), logits, rtol=0, atol=1e-4)
    shares = (logits.argmax(dim=1) == labels).double().mean(dim=1)
    assert torch.equal(accuracy(ensemble, x.T, labels), shares)


def test_the_gradients_are_autograds() -> None:
    network = NETWORKS["batchnorm_mlp"]()
    x, labels = batches(1)[0]
    _, found = gradients(stack([network]), x.T, labels)
    nn.functional.cross_entropy(network.train()(x), labels).backward()
    for gradient, (linear, norm) in zip(found, step.layers(network), strict=True):
        ours = torch.matmul(gradient.z, gradient.x.mT)[0]
        torch.testing.assert_close(ours, linear.weight.grad, rtol=1e-4, atol=1e-7)
        if norm:
            assert gradient.norm is not None
            torch.testing.assert_close(gradient.norm[0], norm.weight.grad, rtol=1e-4, atol=1e-7)


def dropout(*probabilities: float) -> Dropout:
    return Dropout(torch.tensor(probabilities)[:, None, None], torch.Generator().manual_seed(0))


def test_dropout_silences_its_share_and_keeps_the_mean() -> None:
    mask = dropout(0.0, 0.2).mask(torch.ones(2, 200, 500))
    assert torch.equal(mask[0], torch.ones(200, 500))
    assert (mask[1] == 0).double().mean().item() == pytest.approx(0.2, abs=0.01)
    assert mask[1].mean().item() == pytest.approx(1, abs=0.01)


def test_the_gradients_with_dropout_are_autograds() -> None:
    network = NETWORKS["simple_mlp"]()
    x, labels = batches(1)[0]
    _, found = gradients(stack([network]), x.T, labels, dropout(0.2))

    same, y = dropout(0.2), x
    for linear, _ in step.layers(network)[:-1]:
        y = linear(y).relu()
        y = y * same.mask(y.T[None])[0].T
    nn.functional.cross_entropy(network.fc3(y), labels).backward()
    for gradient, (linear, _) in zip(found, step.layers(network), strict=True):
        ours = torch.matmul(gradient.z, gradient.x.mT)[0]
        torch.testing.assert_close(ours, linear.weight.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("key", KEYS)
def test_a_member_drops_out_as_it_would_alone(key: str) -> None:
    network = NETWORKS[key]()
    together, alone = stack([network, network]), stack([network])
    masks = (dropout(0.0, 0.2), dropout(0.2))
    for x, labels in batches(20):
        for ensemble, mask in zip((together, alone), masks, strict=True):
            lr = torch.full((len(ensemble[0].weight), 1, 1), 0.1)
            sgd_step(ensemble, x.T, labels, lr, mask)
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both.weight[1:], one.weight, rtol=0, atol=1e-5)
        assert not torch.allclose(both.weight[:1], one.weight, atol=1e-3)


def test_the_running_variance_is_over_n_where_that_is_asked_for() -> None:
    layers = stack([NETWORKS["batchnorm_mlp"]()])
    layers[0].norm = batch_norm(1, 128, CPU, eps=1e-6, running_var=0.0, unbiased=False)
    x, labels = batches(1)[0]
    z = layers[0].weight[0] @ x.T
    gradients(layers, x.T, labels)
    expected = 0.1 * z.var(dim=1, correction=0)
    torch.testing.assert_close(layers[0].norm.running_var, expected, rtol=1e-4, atol=0)
