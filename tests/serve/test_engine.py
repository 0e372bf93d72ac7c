import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.core.files import ROOT
from pipeline.data.load import Dataset
from serve.model.engine import Engine
from serve.model.source import fetch
from tests.serve.bad_models import BAD


def test_weights_in_other_files_are_refused_wherever_they_are(model: Path, tmp_path: Path) -> None:
    loaded, outside = onnx.load(model), tmp_path / "outside.onnx"
    onnx.save(loaded, outside, save_as_external_data=True, size_threshold=0)
    with pytest.raises(ValueError, match="its weights are in other files"):
        Engine.read(outside)
    weights = onnx.load(outside, load_external_data=False).graph.initializer[0]
    constant = onnx.helper.make_node("Constant", [], ["hidden"], value=weights)
    branch = onnx.helper.make_graph([constant], "branch", [], [])
    node = onnx.helper.make_node("If", ["true"], [], then_branch=branch, else_branch=branch)
    loaded.graph.node.append(node)
    onnx.save(loaded, outside)
    with pytest.raises(ValueError, match="its weights are in other files"):
        Engine.read(outside)


def test_the_engine_returns_logits_and_probabilities(model: Path, small_dataset: Dataset) -> None:
    tensors = Engine.read(model).infer({"images": small_dataset.test_images[:5]})
    assert tensors["logits"].shape == tensors["probabilities"].shape == (5, 10)
    assert np.allclose(tensors["probabilities"].sum(axis=1), 1, atol=1e-6)


def test_the_version_is_of_the_files_sha256(model: Path) -> None:
    engine = Engine.read(model)
    assert engine.name == "batchnorm_mlp"
    assert engine.version == hashlib.sha256(model.read_bytes()).hexdigest()[:12]


def test_a_missing_model_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run `dvc repro export`"):
        fetch(str(tmp_path / "model.onnx"), "")


def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="not a usable ONNX model"):
        Engine.read(tmp_path / "model.onnx")


@pytest.mark.parametrize("kind", ["FLOAT16", "FLOAT", "DOUBLE", "UINT16", "INT64"])
def test_a_model_with_another_input_has_the_same_logits(model: Path, kind: str) -> None:
    other, expected = onnx.load(model), Engine.read(model)
    other.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DataType.Value(kind)
    onnx.save(other, model)
    engine = Engine.read(model)
    images = np.full((2, 28, 28), 7, engine.inputs[0].datatype.dtype)
    logits = expected.infer({"images": images.astype(np.uint8)})["logits"]
    assert np.array_equal(engine.infer({"images": images})["logits"], logits)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("STRING", r"images is a tensor\(string\), this server carries BOOL, UINT8"),
        ("INT8", "no valid self-test: OverflowError"),  # of grey levels up to 255
    ],
)
def test_a_model_whose_input_it_cannot_fill_is_refused(model: Path, kind: str, reason: str) -> None:
    other = onnx.load(model)
    other.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DataType.Value(kind)
    onnx.save(other, model)
    with pytest.raises(ValueError, match=reason):
        Engine.read(model)


@pytest.mark.parametrize("kind", BAD)
def test_a_model_of_other_sizes_or_metadata_is_refused_with_the_reason(
    model: Path, kind: str
) -> None:
    change, reason = BAD[kind]
    bad = onnx.load(model)
    change(bad)
    onnx.save(bad, model)
    with pytest.raises(ValueError, match=f"(?s)model.onnx is .*{reason}"):
        Engine.read(model)


def test_serving_imports_neither_torch_nor_mlflow(model: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import serve.__main__;"
        "from serve.http.access import Access; from serve.http.app import App;"
        "from serve.model.engine import Engine; from serve.model.served import ServedModels;"
        "App(ServedModels([Engine.read(Path(sys.argv[1]))]), Access(), lambda: None);"
        "sys.exit(str({'torch', 'mlflow', 'pipeline', 'models'} & set(sys.modules) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code, model], cwd=ROOT, capture_output=True)
    assert done.stderr.strip() == b"0"
