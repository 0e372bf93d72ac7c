import subprocess
import sys

import pytest
import torch

import models
from models import NETWORKS
from pipeline.core.files import ROOT
from pipeline.data.dataset import CLASSES, IMAGE_SHAPE


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ImportError, match="TransformerMLP"):
        from models import TransformerMLP  # noqa: F401
    with pytest.raises(AttributeError, match="'models' has no attribute 'TransformerMLP'"):
        _ = models.TransformerMLP


def test_the_table_is_read_without_importing_torch() -> None:
    code = "import sys, models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("key", NETWORKS)
def test_every_network_turns_images_into_a_logit_per_class(key: str) -> None:
    assert NETWORKS[key].build()(torch.randn(3, *IMAGE_SHAPE)).shape == (3, CLASSES)


@pytest.mark.parametrize("column", ["path", "title", "color", "marker"])
def test_no_two_networks_look_alike(column: str) -> None:
    assert len({getattr(network, column) for network in NETWORKS.values()}) == len(NETWORKS)
