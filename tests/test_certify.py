from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models import BatchNormMLP
from pipeline import export
from pipeline.certify import certify, compare
from pipeline.data import Mnist
from pipeline.figure import draw_certificate
from pipeline.legs import deployed_logits, file_logits, pytorch_logits
from pipeline.params import CertifyParams
from pipeline.train import normalise

PARAMS = CertifyParams(max_abs_difference=1e-4, request_size=100)
LABELS = np.array([0, 1])
EXPECTED = np.array([[2.0, 1.0], [1.0, 2.0]], np.float32)


def test_the_deployed_network_passes_in_every_leg(
    network: BatchNormMLP, model: Path, small_mnist: Mnist
) -> None:
    images, labels = small_mnist.test_images, small_mnist.test_labels
    certificate = certify(network, model, images, labels, PARAMS)
    assert certificate["passed"]
    assert certificate["images"] == 320
    assert set(certificate["flipped"]) == {"file", "optimised_file", "server"}
    assert set(certificate["accuracy"].values()) == {certificate["accuracy"]["pytorch"]}
    assert 0 < certificate["max_abs_difference"]["server"] < 1e-4


def batch_statistics(network: BatchNormMLP, images: np.ndarray) -> None:
    """Those of the images at hand, as an export in train mode would use."""
    x = normalise(images).flatten(1)
    z = network.fc1(x)
    network.bn1.running_mean, network.bn1.running_var = z.mean(0), z.var(0, correction=0)


def wrong_eps(network: BatchNormMLP, _images: np.ndarray) -> None:
    network.bn1.eps = 1e-2


def transposed_weight(network: BatchNormMLP, _images: np.ndarray) -> None:
    square = network.fc2.weight[:, :64]
    square.copy_(square.T.clone())


@pytest.mark.parametrize("break_it", [batch_statistics, wrong_eps, transposed_weight])
def test_a_wrong_export_fails_in_every_leg(
    network: BatchNormMLP,
    small_mnist: Mnist,
    tmp_path: Path,
    break_it: Callable[[BatchNormMLP, np.ndarray], None],
) -> None:
    broken = BatchNormMLP().eval()
    broken.load_state_dict(network.state_dict())
    with torch.no_grad():
        break_it(broken, small_mnist.test_images[:64])
    fails_in_every_leg(network, broken, small_mnist, tmp_path)


def test_an_export_without_normalisation_fails_and_is_not_even_served(
    network: BatchNormMLP, small_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "fold_normalisation", lambda weight, bias: (weight, bias))
    model = tmp_path / "broken.onnx"
    model.write_bytes(export.to_onnx(network, 0.9).SerializeToString())
    images, labels = small_mnist.test_images, small_mnist.test_labels
    legs = {"file": file_logits(model, images, optimise=False)}
    assert not compare(pytorch_logits(network, images), legs, labels, limit=1e-4)["passed"]
    with pytest.raises(RuntimeError, match="the server stopped"):
        certify(network, model, images, labels, PARAMS)


def fails_in_every_leg(
    network: BatchNormMLP, broken: BatchNormMLP, mnist: Mnist, folder: Path
) -> None:
    model = folder / "broken.onnx"
    model.write_bytes(export.to_onnx(broken, 0.9).SerializeToString())
    certificate = certify(network, model, mnist.test_images, mnist.test_labels, PARAMS)
    assert not certificate["passed"]
    assert min(certificate["max_abs_difference"].values()) > PARAMS.max_abs_difference


def test_one_flipped_answer_fails_however_small_the_difference() -> None:
    near = np.array([[1.0, 1.00001], [1.0, 2.0]], np.float32)
    certificate = compare(near[:, ::-1].copy(), {"file": near}, LABELS, limit=10.0)
    assert certificate["flipped"] == {"file": 2}
    assert not certificate["passed"]


def test_a_difference_over_the_limit_fails_without_a_flip() -> None:
    certificate = compare(EXPECTED, {"file": EXPECTED + np.float32(0.01)}, LABELS, limit=1e-4)
    assert certificate["flipped"] == {"file": 0}
    assert not certificate["passed"]


def test_an_answer_that_is_not_a_number_fails() -> None:
    certificate = compare(EXPECTED, {"file": EXPECTED * np.float32("nan")}, LABELS, limit=1e-4)
    assert not certificate["passed"]


def test_the_table_has_a_row_for_each_leg_and_kind_of_images(
    network: BatchNormMLP, model: Path, small_mnist: Mnist
) -> None:
    images, labels = small_mnist.test_images, small_mnist.test_labels
    certificate = certify(network, model, images, labels, PARAMS)
    rows = certificate["legs"]
    kinds = ["test", "all 0, all 255", "single pixels", "noise", "extremes"]
    files = [f"{part}, batch {n}" for part in ("file", "optimised_file")
             for n in ("1", "7", "64", "10,000")]  # fmt: skip
    legs = ["PyTorch, float32", "folded, float64", *files, "server, JSON", "server, binary"]
    found = [(row["images"], row["leg"]) for row in rows]
    assert found == [(kind, leg) for kind in kinds for leg in legs]
    assert all(row["passed"] for row in rows)
    assert all(row["float64_error"] < 1e-10 for row in rows if row["leg"] == "folded, float64")
    assert certificate["float64_error"]["deployed"] < 1e-4
    assert certificate["margin"]["proven_images"] > 300
    assert draw_certificate(rows, 1e-4).startswith(b"\x89PNG")


def test_a_file_that_is_wrong_on_hard_images_alone_fails(
    network: BatchNormMLP, model: Path, small_mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong_on_the_last(*arguments: object) -> dict[str, np.ndarray]:
        legs = deployed_logits(*arguments)
        legs["server, binary"] = legs["server, binary"] + np.float32(0)
        legs["server, binary"][-1] += 1
        return legs

    monkeypatch.setattr("pipeline.certify.deployed_logits", wrong_on_the_last)
    images, labels = small_mnist.test_images, small_mnist.test_labels
    certificate = certify(network, model, images, labels, PARAMS)
    assert not certificate["passed"]
    assert certificate["max_abs_difference"]["server"] < 1e-4
    failed = [(row["images"], row["leg"]) for row in certificate["legs"] if not row["passed"]]
    assert failed == [("extremes", "server, binary")]


def test_a_part_is_as_good_as_the_worst_of_its_legs() -> None:
    legs = {"file, batch 1": EXPECTED, "file, batch 7": EXPECTED[:, ::-1].copy()}
    for ordered in (legs, dict(reversed(legs.items()))):
        certificate = compare(EXPECTED, ordered, LABELS, limit=10.0)
        assert certificate["flipped"] == {"file": 2}
        assert certificate["accuracy"]["file"] == 0
        assert certificate["max_abs_difference"]["file"] == 1
        assert not certificate["passed"]
