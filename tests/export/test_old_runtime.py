"""The exported file in the ONNX Runtime that KServe's Triton has, in an environment of its own."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.load import Dataset
from serve.model.engine import Engine
from tests.support import install

RUN = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
logits, _ = session.run(["logits", "probabilities"], {"images": numpy.load(sys.argv[2])})
numpy.save(sys.argv[3], logits)
"""


@pytest.mark.slow
def test_onnx_runtime_1_15_gives_the_same_logits(
    model: Path, small_dataset: Dataset, tmp_path: Path
) -> None:
    tools = install(tmp_path / "environment", "onnxruntime==1.15.1", "numpy<2")
    images, logits = tmp_path / "images.npy", tmp_path / "logits.npy"
    np.save(images, small_dataset.test_images)
    subprocess.run([tools / "python", "-c", RUN, model, images, logits], check=True)
    expected = Engine.read(model).infer({"images": small_dataset.test_images})["logits"]
    assert np.allclose(np.load(logits), expected, atol=1e-5)
