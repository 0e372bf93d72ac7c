"""The page in a real browser: strokes drawn by script, the right digit shown."""

import shutil
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from pipeline.certify.server import running_server
from pipeline.core import files
from pipeline.core.params import load_params

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium")

Stroke = list[tuple[float, float]]  # points, 0 to 1 from the canvas's upper left corner
DIGITS: dict[int, list[Stroke]] = {
    1: [[(0.5, 0.15), (0.5, 0.85)]],
    4: [[(0.35, 0.15), (0.3, 0.5), (0.7, 0.5)], [(0.65, 0.15), (0.6, 0.9)]],
    7: [[(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)]],
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The real server of the trained model."""
    with running_server(files.require(load_params().export.model, "export")) as client:
        yield str(client.base_url)


@pytest.fixture(params=["desk", "phone"])
def page(request: pytest.FixtureRequest, address: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        size = {"width": 390, "height": 844} if request.param == "phone" else None
        page = browser.new_page(viewport=size, color_scheme="dark" if size else "light")
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda sent: errors.extend([sent.url] * (address not in sent.url)))
        page.goto(address)
        yield page
        browser.close()
        assert [error for error in errors if not error.startswith("data:")] == []


def draw(page: Page, digit: int, scale: float = 1.0) -> None:
    box = page.locator("#drawing").bounding_box()
    assert box
    for points in DIGITS[digit]:
        places = [
            (box["x"] + x * scale * box["width"], box["y"] + y * scale * box["height"])
            for x, y in points
        ]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=10)
        page.mouse.up()


@pytest.mark.parametrize("digit", DIGITS)
def test_a_drawn_digit_is_recognized(page: Page, digit: int) -> None:
    draw(page, digit)
    page.get_by_text(f"This is a {digit} (").wait_for()
    page.get_by_text("infer").first.wait_for(state="attached")
    page.keyboard.press("Escape")
    page.get_by_text("Nothing drawn yet").wait_for()


def test_a_small_digit_in_a_corner_needs_centering(page: Page) -> None:
    draw(page, 7, scale=0.45)
    page.get_by_text("This is a 7 (").wait_for()
    page.get_by_label("center it as MNIST does").uncheck()
    expect(page.locator("#answer")).not_to_contain_text("a 7")


def test_the_keyboard_draws(page: Page) -> None:
    page.locator("#drawing").focus()
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(18):
        page.keyboard.press("ArrowDown")
    page.get_by_text("This is a 1 (").wait_for()


def test_the_page_shows_which_model_it_uses(page: Page, address: str) -> None:
    version = httpx.get(f"{address}/v2/models/batchnorm_mlp").json()["versions"][0]
    page.get_by_text(f"version {version} · 97.").wait_for()


def test_the_curl_command_gives_the_same_answer(page: Page) -> None:
    draw(page, 1)
    page.get_by_text("This is a 1 (").wait_for()
    command = page.locator("#curl").text_content() or ""
    body = command.split("--data '")[1].removesuffix("'")
    answer = httpx.post(command.split()[1], content=body).json()
    probabilities = answer["outputs"][0]["data"]
    assert probabilities.index(max(probabilities)) == 1
