"""The description of the data set against the files and against data.dvc."""

from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.core.files import ROOT
from pipeline.data.dataset import (
    ABOUT,
    CLASS_NAMES,
    CLASSES,
    DIGESTS,
    IMAGE_SHAPE,
    IMAGES,
    count_images,
    pinned_md5,
)
from pipeline.data.load import load_dataset


def test_the_constants_are_mnists() -> None:
    assert list(DIGESTS) == [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ]
    assert IMAGE_SHAPE == (28, 28)
    assert IMAGES == {"training": 60_000, "test": 10_000}
    assert CLASSES == 10
    assert list("0123456789") == CLASS_NAMES


def test_data_dvc_pins_the_files_of_the_description() -> None:
    (pin,) = YAML(typ="safe").load(ROOT / "data.dvc")["outs"]
    assert pin["md5"] == pinned_md5()
    assert pin["size"] == sum(int(file["contentSize"]) for file in ABOUT["distribution"])


def test_each_file_has_the_described_size() -> None:
    for file in ABOUT["distribution"]:
        assert (ROOT / file["contentUrl"]).stat().st_size == int(file["contentSize"])


def test_the_numbers_of_images_and_their_shape_are_those_of_the_files() -> None:
    dataset = load_dataset()
    assert dataset.train_images.shape == (IMAGES["training"], *IMAGE_SHAPE)
    assert dataset.test_images.shape == (IMAGES["test"], *IMAGE_SHAPE)
    assert len(dataset.train_labels) == IMAGES["training"]
    assert len(dataset.test_labels) == IMAGES["test"]


@pytest.mark.parametrize("shape", [(4, 4), (1, 8, 8), (3, 32, 32)])
def test_the_number_of_images_follows_from_the_size_of_a_numpy_file(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    np.save(tmp_path / "images.npy", np.zeros((70, *shape), np.uint8))
    size = (tmp_path / "images.npy").stat().st_size
    assert count_images({"name": "images.npy", "contentSize": str(size)}, shape) == 70


def test_a_class_name_stands_at_the_index_of_its_label() -> None:
    (classes,) = (records for records in ABOUT["recordSet"] if records["@id"] == "classes")
    assert [record["classes/label"] for record in classes["data"]] == list(range(CLASSES))
