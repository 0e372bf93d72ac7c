from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from models import BatchNormMLP
from pipeline.data import Mnist
from pipeline.export import fold, to_onnx
from pipeline.train import normalise


def infer(model: onnx.ModelProto, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"images": images})


def test_folded_graph_has_no_batch_normalization(network: BatchNormMLP) -> None:
    operators = Counter(node.op_type for node in to_onnx(network, 0.9).graph.node)
    assert operators == {"Cast": 1, "Flatten": 1, "Gemm": 3, "Relu": 2, "Softmax": 1}


def test_the_same_weights_give_the_same_bytes(network: BatchNormMLP) -> None:
    first, second = (to_onnx(network, 0.9).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_the_file_holds_its_own_weights(network: BatchNormMLP) -> None:
    model = to_onnx(network, 0.9)
    assert len(model.graph.initializer) == 6
    assert all(len(tensor.raw_data) > 0 for tensor in model.graph.initializer)


@pytest.mark.parametrize("count", [1, 7, 320])
def test_any_number_of_images_answers_as_pytorch_does(
    network: BatchNormMLP, small_mnist: Mnist, count: int
) -> None:
    images = small_mnist.test_images[:count]
    logits, probabilities = infer(to_onnx(network, 0.9), images)
    with torch.inference_mode():
        expected = network(normalise(images))
    assert logits.dtype == probabilities.dtype == np.float32
    assert np.abs(logits - expected.numpy()).max() < 1e-4
    assert np.allclose(probabilities, expected.softmax(1).numpy(), atol=1e-5)


def test_folding_in_float64_is_exact(network: BatchNormMLP, small_mnist: Mnist) -> None:
    x = small_mnist.test_images.reshape(-1, 784).astype(np.float64)
    *hidden, last = fold(network)
    for weight, bias in hidden:
        x = np.maximum(x @ weight.T + bias, 0)
    pixels = torch.from_numpy(small_mnist.test_images).double()
    with torch.inference_mode():
        expected = network.double()(pixels / 127.5 - 1).numpy()
    assert np.abs(x @ last[0].T + last[1] - expected).max() < 1e-12


def test_a_network_in_train_mode_is_refused(network: BatchNormMLP) -> None:
    network.bn2.train()
    with pytest.raises(ValueError, match="train mode"):
        to_onnx(network, 0.9)
