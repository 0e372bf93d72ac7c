"""The page for networks of other images than digits: in color, with names for their classes."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from safetensors.numpy import load
from torch import nn

from pipeline.certify.server import running_server
from pipeline.export import graph
from tests.serve.other_models import MODELS, write
from tests.serve.process import serving
from tests.serve.test_page import is_finished, open_page, set_chance

pytestmark = pytest.mark.browser

NAMES = ["tomato", "green apple", "blueberry"]
LONG = [f"parallelogram {number}" for number in range(20)]


def export(path: Path, shape: tuple[int, ...], names: list[str]) -> Path:
    """Export a network whose logits are the means of equal parts of the image: for images of three
    channels and three classes, of the colors."""
    pixels, classes = math.prod(shape), len(names)
    weight = torch.eye(classes).repeat_interleave(math.ceil(pixels / classes), dim=1)[:, :pixels]
    network = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))
    network[1].weight = nn.Parameter(weight / 100)
    network[1].bias = nn.Parameter(torch.zeros(classes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "IMAGE_SHAPE", shape)
        patch.setattr(graph, "CLASS_NAMES", names)
        metadata = {"title": "Colors", "color": "#0072B2", **graph.self_test(network.eval())}
        onnx.save(graph.to_onnx(network, path.stem, metadata), path)
    return path


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a network of images (3, 32, 32)."""
    return export(tmp_path_factory.mktemp("models") / "colors.onnx", (3, 32, 32), NAMES)


@pytest.fixture(scope="module")
def address(colors: Path) -> Iterator[str]:
    with serving(colors, "--sample", "1") as (_, address):
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    page = open_page(browser, address)
    yield page
    page.context.close()


def choose(page: Page, pixels: np.ndarray, path: Path) -> dict[str, Any]:
    """Choose an image (height, width, 3) uint8 as a file, and return the first input that the page
    sends."""
    Image.fromarray(pixels).save(path)
    with page.expect_request("**/infer") as sent:
        page.set_input_files("#file", path)
    (tensor,) = json.loads(sent.value.post_data or "")["inputs"]
    return tensor


def random_image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def test_a_chosen_image_is_sent_pixel_by_pixel_with_its_channels_first(
    page: Page, tmp_path: Path
) -> None:
    pixels = random_image()
    pixels[..., 1] = 255  # green
    tensor = choose(page, pixels, tmp_path / "apple.png")
    assert tensor["shape"] == [1, 3, 32, 32]
    sent = np.reshape(tensor["data"], (3, 32, 32))
    assert np.array_equal(sent, pixels.transpose(2, 0, 1))
    expect(page.locator(".answer")).to_contain_text("green apple")
    expect(page.get_by_text("apple.png")).to_be_visible()
    with page.expect_request("**/infer") as inverted:
        page.get_by_label("invert light and dark").check()
    (tensor,) = json.loads(inverted.value.post_data or "")["inputs"]
    assert np.array_equal(np.reshape(tensor["data"], (3, 32, 32)), 255 - sent)


def test_a_large_image_is_cut_to_the_middle_and_scaled(page: Page, tmp_path: Path) -> None:
    pixels = np.zeros((320, 640, 3), np.uint8)
    pixels[:, 160:480, 2] = 255  # the middle is blue, what is left and right of it is black
    blue = np.reshape(choose(page, pixels, tmp_path / "wide.png")["data"], (3, 32, 32))[2]
    assert blue.min() == 255


def test_the_page_is_about_images_and_the_names_of_their_classes(page: Page) -> None:
    expect(page).to_have_title("Classify an image")
    expect(page.locator("#bars li")).to_have_text(NAMES)
    for words in ("Draw", "digit", "MNIST"):
        assert words not in page.locator("body").inner_text()


def test_an_image_can_be_dropped_and_another_file_is_an_error(page: Page) -> None:
    drop = """(type) => document.createElement("canvas").toBlob((image) => {
        const files = new DataTransfer();
        files.items.add(type ? new File([image], "dropped.png") : new File(["text"], "notes.txt"));
        dispatchEvent(new DragEvent("drop", { dataTransfer: files, cancelable: true }));
    })"""
    page.evaluate(drop, False)
    expect(page.get_by_role("alert")).to_have_text(
        "notes.txt is not an image that this browser can read."
    )
    page.evaluate(drop, True)
    expect(page.get_by_text("dropped.png")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator(".answer strong")).to_have_text("tomato")  # all are equally likely


def test_the_answer_to_the_question_is_a_name(page: Page, address: str, tmp_path: Path) -> None:
    set_chance(page, 0.19)
    with page.expect_request(is_finished):
        choose(page, random_image(), tmp_path / "fruit.png")
    question = page.locator("#question")
    expect(question).to_contain_text("Which class is it?")
    question.get_by_role("button", name="blueberry").click()
    expect(question).to_contain_text("keeps your answer with the image")
    sample = load(httpx.get(f"{address}/v2/models/colors/sample").content)
    assert sample["label"].tolist() == [NAMES.index("blueberry")]


def test_grey_images_of_named_classes_are_files_too(browser: Browser, tmp_path: Path) -> None:
    clothes = export(tmp_path / "clothes.onnx", (28, 28), ["Ankle boot", "Bag"])
    with running_server(clothes) as client:
        page = open_page(browser, str(client.base_url))
        expect(page.get_by_text("28 × 28 pixels, in grey")).to_be_visible()
        tensor = choose(page, random_image()[:28, :28], tmp_path / "boot.png")
        assert tensor["shape"] == [1, 28, 28]
        grey = np.array(Image.open(tmp_path / "boot.png").convert("L"), int).ravel()
        assert np.abs(np.array(tensor["data"]) - grey).max() <= 1
        page.context.close()


def test_networks_of_another_task_are_not_shown(
    browser: Browser, colors: Path, model: Path
) -> None:
    with running_server(model, colors) as client:
        page = open_page(browser, str(client.base_url))
        expect(page).to_have_title("Draw a digit")
        expect(page.locator("#models tr")).to_have_count(1)
        page.context.close()


def test_without_a_network_of_images_the_page_says_so(browser: Browser, tmp_path: Path) -> None:
    with running_server(write(tmp_path, MODELS["half"])) as client:
        page = open_page(browser, str(client.base_url))
        expect(page.get_by_role("alert")).to_contain_text(
            "No served model classifies grey or colored"
        )
        page.context.close()


def test_eight_networks_of_one_file_and_twenty_long_names_fit_every_width(
    browser: Browser, tmp_path: Path
) -> None:
    path = export(tmp_path / "long.onnx", (1, 32, 32), LONG)
    with running_server(*(f"{name}={path}" for name in "abcdefgh")) as client:
        page = open_page(browser, str(client.base_url))
        choose(page, random_image(), tmp_path / "any.png")
        expect(page.locator(".answer > span:first-child")).to_have_text(list("abcdefgh"))
        color = "(bars) => new Set(bars.map((bar) => getComputedStyle(bar).backgroundColor)).size"
        assert page.locator("#bars li:first-child .bar").evaluate_all(color) == 8
        for width in (375, 768, 1280, 1920):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.context.close()


@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_the_document_shows_routes_in_groups_and_the_fields_of_their_bodies(
    browser: Browser, address: str, device: str
) -> None:
    page = open_page(browser, address, device)
    page.goto(f"{address}/docs")
    titles = ["The server", "A model", "A version of a model", "Schemas"]
    expect(page.get_by_role("heading", level=2)).to_have_text(titles)
    infer = page.locator(".route", has_text="/v2/models/{name}/infer").first
    infer.locator("summary").click()
    expect(infer.locator(".badge")).to_have_text("POST")
    expect(infer.get_by_role("row", name="inputs")).to_contain_text("array of InputTensor")
    infer.get_by_role("link", name="InputTensor").click()
    expect(page.locator("#InputTensor")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.context.close()
