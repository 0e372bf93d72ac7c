import pytest
import torch
from torch import nn

from models import NETWORKS, BatchNormMLP, SimpleMLP

PARAMETERS = {"simple_mlp": 109_386, "batchnorm_mlp": 109_770}
PRINTED = """\
BatchNormMLP(
  (fc1): Linear(in_features=784, out_features=128, bias=True)
  (bn1): BatchNorm1d(128, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
  (fc2): Linear(in_features=128, out_features=64, bias=True)
  (bn2): BatchNorm1d(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
  (fc3): Linear(in_features=64, out_features=10, bias=True)
)"""


def test_the_public_names_are_those_that_users_rely_on() -> None:
    assert type(NETWORKS["simple_mlp"].build()) is SimpleMLP
    assert type(NETWORKS["batchnorm_mlp"].build()) is BatchNormMLP


@pytest.mark.parametrize("network", [SimpleMLP, BatchNormMLP])
def test_a_batch_of_32_dummy_images_gives_32_rows_of_ten_logits(network: type[nn.Module]) -> None:
    assert network()(torch.randn(32, 28, 28)).shape == torch.Size([32, 10])


def test_batchnorm_mlp_prints_as_in_the_tutorial() -> None:
    # PyTorch 2.14 prints batch normalization's bias, which the tutorial's PyTorch did not.
    assert str(BatchNormMLP()).replace("affine=True, bias=True", "affine=True") == PRINTED


def test_simple_mlp_is_batchnorm_mlp_without_batch_norm() -> None:
    kept = [line for line in PRINTED.splitlines() if "(bn" not in line]
    assert str(SimpleMLP()) == "\n".join(kept).replace("BatchNormMLP", "SimpleMLP")


@pytest.mark.parametrize("key", PARAMETERS)
def test_parameter_counts(key: str) -> None:
    assert sum(p.numel() for p in NETWORKS[key].build().parameters()) == PARAMETERS[key]


def test_train_mode_uses_the_batch_and_eval_mode_the_running_statistics() -> None:
    network, images = BatchNormMLP(), torch.randn(32, 28, 28)
    alone = network.eval()(images[:2])
    assert torch.allclose(network(images)[:2], alone, atol=1e-6)
    assert not torch.allclose(network.train()(images)[:2], alone, atol=1e-2)
