import numpy as np
import pytest

from pipeline.data.corruptions import CORRUPTIONS, GEOMETRIC, rotate, shear, translate


@pytest.fixture
def images() -> np.ndarray:
    """Five black images with one bright dot each, above the center."""
    images = np.zeros((5, 28, 28), np.uint8)
    images[:, 4:8, 12:16] = 250
    return images


def dot(images: np.ndarray) -> tuple[float, float]:
    """The mean row and column of the first image's ink."""
    rows, columns = np.nonzero(images[0] > 100)
    return float(rows.mean()), float(columns.mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_always_gives_the_same_new_images(name: str, images: np.ndarray) -> None:
    before = images.copy()
    corrupted = CORRUPTIONS[name](images)
    assert corrupted.shape == images.shape
    assert corrupted.dtype == np.uint8
    assert (images == before).all()
    assert (corrupted != images).any(axis=(1, 2)).all()
    assert (CORRUPTIONS[name](images) == corrupted).all()


@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_geometric_corruption_moves_ink_and_keeps_the_background(
    name: str, images: np.ndarray
) -> None:
    corrupted = CORRUPTIONS[name](images)
    assert dot(corrupted) != dot(images)
    assert (corrupted.min(), np.median(corrupted)) == (0, 0)


def test_ink_above_the_center_goes_where_the_docstrings_say(images: np.ndarray) -> None:
    row, column = dot(images)
    assert dot(translate(images)) == (row, column + 2)
    assert dot(rotate(images))[1] < column - 2  # counterclockwise
    assert dot(shear(images))[1] > column + 2
