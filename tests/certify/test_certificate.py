import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from models import NETWORKS, BatchNormMLP
from pipeline.certify.backends import Exported, backends, file_logits, pytorch_logits
from pipeline.certify.certificate import certify, metrics, write_certificate
from pipeline.certify.comparison import Row, compare, totals
from pipeline.certify.figure import KINDS, draw_certificate
from pipeline.certify.server import running_server
from pipeline.core import files
from pipeline.core.params import CertifyParams
from pipeline.data.load import Dataset
from pipeline.export.fold import fold
from pipeline.export.graph import self_test, to_onnx
from tests.certify.broken import (
    batch_statistics,
    export,
    export_changed,
    transpose_weight,
    wrong_eps,
)
from tests.support import Stranger

PARAMS = CertifyParams(max_abs_difference=1e-4, request_size=100)
LABELS = np.array([0, 1])
EXPECTED = np.array([[2.0, 1.0], [1.0, 2.0]], np.float32)


def certified(network: nn.Module, model: Path, data: Dataset) -> dict[str, Any]:
    with running_server(f"{model.stem}={model}") as server:
        return certify(Exported(network, fold(network), model, server), data, PARAMS)


@pytest.fixture(scope="module")
def certificate(
    trained_network: BatchNormMLP,
    exported: bytes,
    small_dataset: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """The certificate of a correct export."""
    model = tmp_path_factory.mktemp("certificate") / "model.onnx"
    model.write_bytes(exported)
    return certified(trained_network, model, small_dataset)


def test_an_exported_network_passes_in_every_backend(certificate: dict[str, Any]) -> None:
    assert certificate["passed"]
    assert certificate["images"] == 320
    assert set(certificate["flipped"]) == {"file", "optimized_file", "server"}
    assert set(certificate["accuracy"].values()) == {certificate["accuracy"]["pytorch"]}
    assert 0 < certificate["max_abs_difference"]["server"] < 1e-4
    assert certificate["float64_error"]["exported"] < 1e-4
    assert certificate["margin"]["proven_images"] > 300


def test_the_table_has_a_row_for_each_backend_and_kind_of_images(
    certificate: dict[str, Any],
) -> None:
    rows = certificate["backends"]
    kinds = ["test", "all 0, all 255", "single pixels", "noise", "extremes"]
    files = [
        f"{part}, batch {size}"
        for part in ("file", "optimized_file")
        for size in ("1", "7", "64", "500")
    ]
    backends = ["PyTorch, float32", "folded, float64", *files, "server, JSON", "server, binary"]
    found = [(row["images"], row["backend"]) for row in rows]
    assert found == [(kind, backend) for kind in kinds for backend in backends]
    assert all(row["passed"] for row in rows)
    folded = [row["float64_error"] for row in rows if row["backend"] == "folded, float64"]
    assert max(folded) < 1e-10


def test_the_certificate_is_json_and_its_figure_has_every_kind_of_images(
    certificate: dict[str, Any],
) -> None:
    assert json.loads(json.dumps(certificate, allow_nan=False)) == certificate
    (legend,) = draw_certificate(certificate["backends"], 1e-4).legends
    assert [text.get_text() for text in legend.get_texts()][:-1] == list(KINDS)


def test_a_network_that_is_not_a_chain_of_linear_layers_passes_without_a_margin(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    network, model = Stranger().eval(), tmp_path / "model.onnx"
    model.write_bytes(to_onnx(network, "stranger", self_test(network)).SerializeToString())
    certificate = certified(network, model, small_dataset)
    assert certificate["passed"]
    assert certificate["margin"] is None


@pytest.mark.parametrize(
    "change",
    [
        batch_statistics,
        pytest.param(wrong_eps, marks=pytest.mark.slow),
        pytest.param(transpose_weight, marks=pytest.mark.slow),
    ],
)
def test_a_wrong_export_fails_in_every_backend(
    network: BatchNormMLP,
    small_dataset: Dataset,
    tmp_path: Path,
    change: Callable[[BatchNormMLP, np.ndarray], None],
) -> None:
    model = tmp_path / "broken.onnx"
    broken = export_changed(change, network, small_dataset.test_images)
    model.write_bytes(broken.SerializeToString())
    certificate = certified(network, model, small_dataset)
    assert not certificate["passed"]
    assert min(certificate["max_abs_difference"].values()) > PARAMS.max_abs_difference


def test_an_export_without_pixel_scaling_fails_and_is_not_even_served(
    network: BatchNormMLP, small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "broken.onnx"
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.export.graph.fold", lambda network: deepcopy(network).double())
        model.write_bytes(export(network).SerializeToString())
    images, labels = small_dataset.test_images, small_dataset.test_labels
    logits, expected = file_logits(model, images, optimize=False), pytorch_logits(network, images)
    assert not compare(logits, expected, expected, 1e-4, labels)["passed"]
    with pytest.raises(ConnectionError, match="the server stopped"):
        certified(network, model, small_dataset)


def test_a_backend_that_is_wrong_on_stress_images_alone_fails(
    network: BatchNormMLP, model: Path, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong_on_blank_images(*arguments: Any) -> Iterator[tuple[str, np.ndarray]]:
        for name, logits in backends(*arguments):
            yield name, logits + np.float32(name == "server, binary" and len(logits) == 2)

    monkeypatch.setattr("pipeline.certify.certificate.backends", wrong_on_blank_images)
    certificate = certified(network, model, small_dataset)
    assert not certificate["passed"]
    assert certificate["max_abs_difference"]["server"] < 1e-4
    failed = [row for row in certificate["backends"] if not row["passed"]]
    assert [(row["images"], row["backend"]) for row in failed] == [
        ("all 0, all 255", "server, binary")
    ]


@pytest.mark.parametrize("key", NETWORKS)
def test_a_certificate_that_does_not_pass_is_written_and_an_error(
    key: str, certificate: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {its: certificate | {"passed": its != key} for its in NETWORKS}
    for name in ("CERTIFICATE", "CERTIFICATE_FIGURE", "CERTIFICATE_METRICS"):
        monkeypatch.setattr(files, name, tmp_path / name)
    monkeypatch.setattr(files, "ROOT", tmp_path)
    module = "pipeline.certify.certificate"
    monkeypatch.setattr(f"{module}.load_dataset", lambda: None)
    monkeypatch.setattr(f"{module}.certificates", lambda *_: found)
    with pytest.raises(ValueError, match=f"do not answer as PyTorch does: {NETWORKS[key].title}"):
        write_certificate()
    written = json.loads((tmp_path / "CERTIFICATE").read_text())
    assert written["passed"] == (key != "batchnorm_mlp")
    assert written["other_networks"]["simple_mlp"]["passed"] == (key != "simple_mlp")


def compared(logits: np.ndarray, limit: float, labels: np.ndarray | None = LABELS) -> Row:
    return compare(logits, EXPECTED, EXPECTED.astype(np.float64), limit, labels)


def test_a_flipped_answer_fails_on_test_images_alone_however_small_the_difference() -> None:
    near = np.array([[1.0, 1.00001], [1.0, 2.0]], np.float32)
    row = compare(near, near[:, ::-1].copy(), near, 10.0, LABELS)
    assert (row["flipped"], row["accuracy"], row["passed"]) == (2, 0.5, False)
    assert compare(near, near[:, ::-1].copy(), near, 10.0)["passed"]


def test_a_difference_over_the_limit_fails_without_a_flip() -> None:
    row = compared(EXPECTED + np.float32(0.01), limit=1e-4)
    assert (row["flipped"], row["passed"]) == (0, False)


@pytest.mark.parametrize("labels", [LABELS, None], ids=["test", "stress"])
def test_an_answer_that_is_not_a_number_fails(labels: np.ndarray | None) -> None:
    row = compared(EXPECTED * np.float32("nan"), limit=10.0, labels=labels)
    assert (row["max_abs_difference"], row["passed"]) == (None, False)


def test_the_limit_on_stress_images_grows_with_the_largest_logit() -> None:
    off = EXPECTED + np.float32(0.015)
    assert compared(off, limit=0.01, labels=None)["passed"]  # largest logit 2
    assert not compared(off, limit=0.01)["passed"]
    assert not compared(off + np.float32(0.01), limit=0.01, labels=None)["passed"]


def test_a_part_counts_as_the_worst_of_its_backends() -> None:
    correct, flipped = compared(EXPECTED, 10.0), compared(EXPECTED[:, ::-1].copy(), 10.0)
    rows = [correct | {"backend": "file, batch 1"}, flipped | {"backend": "file, batch 7"}]
    for ordered in (rows, rows[::-1]):
        found = totals(correct, [*ordered, correct | {"backend": "server, JSON"}])
        assert found["flipped"] == {"file": 2, "server": 0}
        assert found["accuracy"] == {"pytorch": 1, "file": 0, "server": 1}
        assert found["max_abs_difference"] == {"file": 1, "server": 0}
        assert not found["passed"]


def test_the_metrics_have_the_largest_difference_in_millionths() -> None:
    certificate = {"passed": True, "images": 2, "flipped": {"file": 0, "server": 1}}
    found = metrics(certificate | {"max_abs_difference": {"file": 9.9312e-6, "server": 0.0}})
    assert found == {"passed": True, "flipped": 1, "max_diff_millionths": 9.931}
    infinite = metrics(certificate | {"max_abs_difference": {"file": None, "server": 1.0}})
    assert infinite["max_diff_millionths"] is None
