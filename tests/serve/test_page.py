"""The page in a real browser: strokes drawn by script, the networks' answers shown."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Request, expect
from safetensors.numpy import load

from models import NETWORKS
from pipeline.certify.server import running_server
from pipeline.core.params import Recipe
from pipeline.data.load import load_dataset
from pipeline.export.graph import held_out_reference, self_test, to_onnx
from pipeline.train.loop import initial_network, train
from tests.serve.process import raw_request, serving

pytestmark = pytest.mark.browser

Stroke = list[tuple[float, float]]  # points, 0 to 1 from the canvas's upper left corner
DIGITS: dict[int, list[Stroke]] = {
    1: [[(0.5, 0.15), (0.5, 0.85)]],
    4: [[(0.35, 0.15), (0.3, 0.5), (0.7, 0.5)], [(0.65, 0.15), (0.6, 0.9)]],
    7: [[(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)]],
}

NOT_COUNTED = {"drift": False, "sample": False}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of both networks after a quick epoch of MNIST."""
    dataset, folder = load_dataset(), tmp_path_factory.mktemp("models")
    params = Recipe(epochs=1, batch_size=64, lr=0.1, seed=0, device="cpu")
    for key, (_, title, color, _) in NETWORKS.items():
        network = initial_network(key, 0)
        *_, last = train(network, dataset, params)
        accuracy = {"test_accuracy": str(last.test_accuracy)}
        metadata = {"title": title, "color": color, **accuracy, **self_test(network.eval())}
        if key == "batchnorm_mlp":
            metadata |= held_out_reference(network, dataset.test_images)
        model = to_onnx(network, key, metadata)
        (folder / f"{key}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    return {key: folder / f"{key}.onnx" for key in NETWORKS}


@pytest.fixture(scope="module")
def address(models: dict[str, Path]) -> Iterator[str]:
    """The real server of both networks."""
    with running_server(*models.values()) as client:
        yield str(client.base_url)


def open_page(browser: Browser, address: str, device: str = "desktop") -> Page:
    """Open the page in a new window; it must neither raise nor load anything from elsewhere."""
    phone = device == "phone"
    context = browser.new_context(
        viewport={"width": 390, "height": 844} if phone else None,
        device_scale_factor=3 if phone else 1,
        has_touch=phone,
        is_mobile=phone,
        color_scheme="dark" if phone else "light",
        permissions=["clipboard-read", "clipboard-write"],
    )
    page = context.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("request", lambda sent: _check_address(sent, address))
    page.goto(address)
    return page


def _check_address(sent: Request, address: str) -> None:
    if not sent.url.startswith((address, "data:")):
        pytest.fail(f"the page loads {sent.url}")


@pytest.fixture(params=["desktop", pytest.param("phone", marks=pytest.mark.slow)])
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    page = open_page(browser, address, request.param)
    yield page
    page.context.close()


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


def expect_answer(page: Page, answer: str) -> None:
    expect(page.locator(".answer", has_text="BatchNormMLP")).to_contain_text(answer)


@pytest.mark.parametrize("digit", DIGITS)
def test_both_networks_recognize_a_drawn_digit(page: Page, digit: int) -> None:
    draw(page, digit)
    for title in ("BatchNormMLP", "SimpleMLP"):
        expect(page.locator(".answer", has_text=title)).to_contain_text(f"a {digit}")
    page.keyboard.press("Escape")
    expect_answer(page, "–")
    expect(page.get_by_text("Draw a digit here")).to_be_visible()


def test_a_small_digit_in_a_corner_is_centered_unless_the_box_is_unchecked(page: Page) -> None:
    with page.expect_request(is_finished) as centered:
        draw(page, 7, scale=0.45)
    expect_answer(page, "a 7")
    center, height = measure(centered.value)
    assert center == pytest.approx((14, 14), abs=0.5)
    assert height in (20, 21, 22)  # 20, and what it shares with the pixels around it
    with page.expect_request(is_finished) as as_drawn:
        page.get_by_label("center it as MNIST does").uncheck()
    center, height = measure(as_drawn.value)
    assert max(center) < 8
    assert height < 15


def measure(request: Request) -> tuple[list[float], int]:
    """Return the center of mass of the ink in a request's image, and how many rows have ink."""
    (image,) = json.loads(request.post_data or "")["inputs"]
    ink = np.reshape(image["data"], image["shape"][1:])
    center = (np.indices(ink.shape) + 0.5) * ink
    return [float(total / ink.sum()) for total in center.sum(axis=(1, 2))], int(ink.any(1).sum())


def test_the_keyboard_draws(page: Page) -> None:
    page.get_by_role("application", name="Draw a digit here").focus()
    for _ in range(12):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(24):
        page.keyboard.press("ArrowDown")
    expect_answer(page, "a 1")


def test_samples_are_recognized_and_undone_stroke_by_stroke(page: Page) -> None:
    for answer in ("a 3", "a 7", "a 2", "a 4", "an 8"):
        page.get_by_role("button", name="Try a sample").click()
        expect_answer(page, answer)
    before = page.locator("#curl").text_content() or ""
    draw(page, 1)
    expect(page.locator("#curl")).not_to_have_text(before)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#curl")).to_have_text(before)
    page.keyboard.press("Control+z")
    expect_answer(page, "–")


def test_strokes_have_the_resolution_of_the_screen(browser: Browser, address: str) -> None:
    page = open_page(browser, address, "phone")  # whose pixels are smaller than CSS's
    expression = "(canvas) => canvas.width / canvas.clientWidth - devicePixelRatio"
    assert abs(page.locator("#drawing").evaluate(expression)) < 0.01
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.context.close()


def test_the_hint_is_about_the_device_in_use(browser: Browser, address: str) -> None:
    for device, hint, other in (
        ("desktop", ".with-mouse", ".with-finger"),
        ("phone", ".with-finger", ".with-mouse"),
    ):
        page = open_page(browser, address, device)
        expect(page.locator(hint)).to_be_visible()
        expect(page.locator(other)).to_be_hidden()
        page.context.close()


def test_the_table_says_whether_recent_images_are_like_the_test_images(
    browser: Browser, models: dict[str, Path]
) -> None:
    images = load_dataset().test_images[:512]
    with running_server(*models.values()) as client:
        page = open_page(browser, str(client.base_url))
        plain, normed = (page.locator("#models tr", has_text=name) for name in ("Simple", "BatchN"))
        expect(plain).to_contain_text("not measured")
        expect(normed).to_contain_text("after 64 images")
        for pixels, words in (
            (images, "like the test images$"),
            (255 - images, r"unlike the test images, last alarm at \d"),
            (images, r"like the test images, last alarm at \d"),
        ):
            body, headers = raw_request(pixels)
            client.post("/v2/models/batchnorm_mlp/infer", content=body, headers=headers)
            page.reload()
            expect(normed.get_by_text(re.compile(f"^{words}"))).to_be_visible()
        page.context.close()


def test_only_a_finished_drawing_counts_for_drift(page: Page) -> None:
    half_drawn: list[dict[str, Any]] = []
    finished: list[dict[str, Any]] = []

    def sort(request: Request) -> bool:
        body = json.loads(request.post_data or "{}")
        if body:
            (half_drawn if body.get("parameters") == NOT_COUNTED else finished).append(body)
        return len(finished) == len(NETWORKS)

    with page.expect_request(sort):
        draw(page, 4)
    assert len(half_drawn) > 4
    assert [body["inputs"] for body in finished] == [half_drawn[-1]["inputs"]] * len(NETWORKS)


def test_a_drawing_counts_once_even_if_the_canvas_is_left_and_entered_again(page: Page) -> None:
    finished: list[Request] = []
    page.on("request", lambda sent: finished.extend([sent] * is_finished(sent)))
    with page.expect_request(is_finished):
        draw(page, 1)
    page.locator("#drawing").focus()
    page.locator("#clear").focus()
    page.wait_for_timeout(1500)
    assert len(finished) == len(NETWORKS)


def is_finished(request: Request) -> bool:
    """Return whether it is a request for inference that counts for drift."""
    return "inputs" in (request.post_data or "") and "drift" not in (request.post_data or "")


def test_the_page_goes_on_after_it_has_read_the_models_again(page: Page) -> None:
    page.clock.install()
    page.reload()
    with page.expect_response("**/metrics"):
        page.clock.fast_forward(11_000)
    draw(page, 7)
    expect_answer(page, "a 7")


def test_a_drawing_made_before_the_token_is_given_is_classified_with_it(
    browser: Browser, models: dict[str, Path]
) -> None:
    with serving(models["batchnorm_mlp"], SERVE_TOKEN="secret") as (_, address):  # noqa: S106
        page = open_page(browser, address)
        draw(page, 7)
        page.get_by_label("Access token").fill("secret")
        page.get_by_role("button", name="Continue").click()
        expect_answer(page, "a 7")
        expect(page.get_by_role("alert")).to_be_hidden()
        page.context.close()


@pytest.fixture(scope="module")
def sampled(models: dict[str, Path]) -> Iterator[str]:
    """The address of a server that samples one drawing."""
    with serving([*models.values()], "--sample", "1") as (_, address):
        yield address


def set_chance(page: Page, value: float) -> None:
    """Have Math.random return the value, from the next drawing on."""
    page.evaluate(f"Math.random = () => {value}")


def empty(address: str) -> None:
    for key in NETWORKS:
        httpx.delete(f"{address}/v2/models/{key}/sample").raise_for_status()


def samples(address: str) -> list[dict[str, np.ndarray]]:
    return [load(httpx.get(f"{address}/v2/models/{key}/sample").content) for key in NETWORKS]


@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_an_answer_is_kept_with_the_drawing_by_each_network(
    browser: Browser, sampled: str, device: str
) -> None:
    empty(sampled)
    page = open_page(browser, sampled, device)
    set_chance(page, 0.19)
    draw(page, 7)
    question = page.locator("#question")
    expect(question).to_contain_text("Which digit is it?")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    question.get_by_role("button", name="4").click()
    expect(question).to_contain_text("keeps your answer")
    for sample in samples(sampled):
        assert sample["label"].tolist() == [4]
        assert sample["inputs/images"].any()  # and not a half-drawn digit
        assert sample["outputs/probabilities"].argmax() == 7
    page.keyboard.press("Escape")
    expect(question).to_be_hidden()
    page.context.close()


def test_an_answer_for_a_drawing_that_is_not_sampled_is_said_not_to_be_kept(
    browser: Browser, sampled: str
) -> None:
    page = open_page(browser, sampled)
    set_chance(page, 0.19)
    draw(page, 7)
    question = page.locator("#question")
    expect(question).to_be_visible()
    empty(sampled)
    question.get_by_role("button", name="7").click()
    expect(question).to_contain_text("not kept this drawing")
    page.context.close()


def test_most_drawings_and_those_of_a_server_without_a_sample_raise_no_question(
    browser: Browser, sampled: str, address: str
) -> None:
    for server, chance in ((sampled, 0.21), (address, 0.19)):
        page = open_page(browser, server)
        set_chance(page, chance)
        with page.expect_response(lambda response: is_finished(response.request)):
            draw(page, 7)
        page.wait_for_timeout(300)
        expect(page.locator("#question")).to_be_hidden()
        page.context.close()


def test_the_page_shows_which_models_it_uses(page: Page, address: str) -> None:
    for key, network in NETWORKS.items():
        version = httpx.get(f"{address}/v2/models/{key}").json()["versions"][0]
        expect(page.get_by_role("row", name=network.title)).to_contain_text(version)
        parameters = httpx.get(f"{address}/v2/models/{key}").json()["parameters"]
        accuracy = f"{float(parameters['test_accuracy']):.2%}"
        expect(page.get_by_role("row", name=network.title)).to_contain_text(accuracy)
    expect(page.get_by_role("row", name="SimpleMLP")).to_contain_text("not measured")


def test_the_curl_command_can_be_copied_and_gives_the_same_answer(page: Page) -> None:
    draw(page, 1)
    expect_answer(page, "a 1")
    page.get_by_text("The same request with curl").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == page.locator("#curl").text_content()
    body = command.split("--data '")[1].removesuffix("'")
    answer = httpx.post(command.split()[1], content=body).json()
    probabilities = answer["outputs"][0]["data"]
    assert probabilities.index(max(probabilities)) == 1


def test_one_network_alone_is_shown_too(browser: Browser, models: dict[str, Path]) -> None:
    with running_server(models["simple_mlp"]) as client:
        page = open_page(browser, str(client.base_url))
        draw(page, 7)
        expect(page.locator(".answer")).to_have_text(re.compile("SimpleMLP a 7"))
        page.context.close()
