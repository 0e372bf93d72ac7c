import pytest
import torch

from models import NETWORKS
from models.deep import DeepMLP


def deep(**options: object) -> DeepMLP:
    """Return a network with the initial weights of seed 0."""
    torch.manual_seed(0)
    return DeepMLP(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("std", [None, (0.1, 0.2, 0.3)])
def test_batch_norm_leaves_the_initial_linear_layers_alone(std: tuple[float, ...] | None) -> None:
    plain = deep(hidden=(30, 20), std=std)
    normed = deep(hidden=(30, 20), std=std, batch_norm=True)
    initial, same = plain.linears.state_dict(), normed.linears.state_dict()
    torch.testing.assert_close(initial, same, rtol=0, atol=0)


def test_initial_weights_have_the_standard_deviations_and_no_biases() -> None:
    network = deep(hidden=(100,), std=(0.5, 0.01))
    deviations = [linear.get_parameter("weight").std().item() for linear in network.linears]
    assert deviations == pytest.approx([0.5, 0.01], rel=0.1)
    assert not any(linear.get_parameter("bias").any() for linear in network.linears)


def test_each_linear_layer_needs_a_standard_deviation() -> None:
    with pytest.raises(ValueError, match="zip"):
        deep(hidden=(100,), std=(0.5,))


def test_running_variances_start_at_zero() -> None:
    norms = deep(batch_norm=True).norms
    assert len(norms) == 5
    assert not any(norm.get_buffer("running_var").any() for norm in norms)


def test_dropout_zeroes_units_in_train_mode_only() -> None:
    network, images = deep(dropout=0.5), torch.randn(8, 28, 28)
    assert not torch.equal(network(images), network(images))
    assert torch.equal(network.eval()(images), network(images))


@pytest.mark.parametrize(("key", "batch_norm"), [("simple_mlp", False), ("batchnorm_mlp", True)])
def test_with_their_sizes_it_is_the_networks_of_the_tutorial(key: str, batch_norm: bool) -> None:
    torch.manual_seed(0)
    expected, images = NETWORKS[key].build(), torch.randn(64, 28, 28)
    network = deep(hidden=(128, 64), batch_norm=batch_norm, eps=1e-5)
    assert torch.equal(network(images), expected(images))
