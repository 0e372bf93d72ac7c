import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.core import files
from pipeline.data import load
from pipeline.data.dataset import CLASSES, DATA, DIGESTS, IMAGE_SHAPE, RAW
from pipeline.data.load import Dataset, load_dataset


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA, tmp_path / "data"))


def test_the_dataset_is_as_torchvision_reads_it(dataset: Dataset) -> None:
    from torchvision.datasets import MNIST  # takes seconds to import

    train, test = MNIST(str(DATA)), MNIST(str(DATA), train=False)
    assert np.array_equal(dataset.train_images, train.data.numpy())
    assert np.array_equal(dataset.train_labels, train.targets.numpy())
    assert np.array_equal(dataset.test_images, test.data.numpy())
    assert np.array_equal(dataset.test_labels, test.targets.numpy())


def test_images_and_labels_are_what_the_definition_says(dataset: Dataset) -> None:
    for images, labels in (dataset[:2], dataset[2:]):
        assert (images.shape[1:], images.dtype) == (IMAGE_SHAPE, np.dtype("uint8"))
        assert (set(labels), labels.dtype) == (set(range(CLASSES)), np.dtype("int64"))


@pytest.mark.parametrize("name", DIGESTS)
def test_one_changed_byte_is_an_error_that_names_the_file(copy: Path, name: str) -> None:
    content = bytearray((copy / RAW / name).read_bytes())
    content[-1] ^= 1
    (copy / RAW / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} .* its MD5 is .*dvc checkout"):
        load_dataset(copy)


def test_a_missing_file_is_an_error_that_names_the_command(copy: Path) -> None:
    (copy / RAW / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels.*run `make data`"):
        load_dataset(copy)


def test_another_file_in_the_folder_is_an_error_that_names_it(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"remove .*notes\.txt"):
        load_dataset(copy)


IMAGES, LABELS = np.arange(4 * 3072, dtype=np.uint8).reshape(4, 3, 32, 32), np.array([0, 1, 2, 1])


def load_saved(folder: Path, patch: pytest.MonkeyPatch, *arrays: np.ndarray) -> Dataset:
    """Save four arrays, described as images (3, 32, 32) in three classes, and load them."""
    for number, array in enumerate(arrays):
        np.save(folder / f"{number}.npy", array)
    digests = {path.name: files.md5(path.read_bytes()) for path in sorted(folder.iterdir())}
    patch.setattr(load, "DIGESTS", digests)
    for name, value in {"RAW": Path(), "IMAGE_SHAPE": (3, 32, 32), "CLASSES": 3}.items():
        patch.setattr(load, name, value)
    return load_dataset(folder)


def test_arrays_that_numpy_saved_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_saved(tmp_path, monkeypatch, IMAGES, LABELS, IMAGES[:2], LABELS[:2].astype("u1"))
    assert np.array_equal(found.train_images, IMAGES)
    assert np.array_equal(found.train_labels, LABELS)
    assert found.test_labels.dtype == np.int64


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.transpose(0, 2, 3, 1), LABELS, r"\(4, 3, 32, 32\) .* \(4, 32, 32, 3\)"),
        (IMAGES / 255, LABELS, "but has float64"),
        (IMAGES[1:], LABELS, r"but has uint8 \(3, 3, 32, 32\)"),
        (IMAGES, LABELS + 1, "labels 0 to 2, but has .* and 1 to 3"),
        (IMAGES, LABELS + 0.5, r"labels \(N,\), integers, but has float64"),
        (IMAGES, LABELS[:, None], r"labels \(N,\), integers, but has int64 \(.*, 1\)"),
    ],
)
def test_arrays_unlike_their_description_are_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: np.ndarray,
    labels: np.ndarray,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        load_saved(tmp_path, monkeypatch, images, labels, IMAGES, LABELS)
