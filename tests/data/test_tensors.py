import numpy as np
import torch

from pipeline.data.dataset import SCALE, SHIFT
from pipeline.data.load import Dataset
from pipeline.data.tensors import scale_pixels, to_tensors

EVERY_PIXEL = np.arange(784, dtype=np.uint8).reshape(28, 28)


def test_pixels_are_scaled_as_torchvision_does_to_the_bit() -> None:
    from torchvision import transforms  # takes seconds to import

    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    assert torch.equal(scale_pixels(EVERY_PIXEL[None]), theirs(EVERY_PIXEL))


def test_the_scaling_is_the_one_that_the_definition_gives() -> None:
    expected = torch.from_numpy(SCALE * EVERY_PIXEL + SHIFT).float()
    torch.testing.assert_close(scale_pixels(EVERY_PIXEL), expected, rtol=0, atol=1e-7)


def test_tensors_are_the_whole_dataset_in_its_order(small_dataset: Dataset) -> None:
    tensors = to_tensors(small_dataset, torch.device("cpu"))
    assert torch.equal(tensors.train_x, scale_pixels(small_dataset.train_images))
    assert torch.equal(tensors.test_x, scale_pixels(small_dataset.test_images))
    assert np.array_equal(tensors.train_labels, small_dataset.train_labels)
    assert np.array_equal(tensors.test_labels, small_dataset.test_labels)
