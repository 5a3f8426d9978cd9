"""``mshnet-app``: the real command, driven in a browser."""

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from app_pictures import CLASS_ID, SOURCE, SUPPORT
from mshnet_pl import Segmenter
from mshnet_pl.app import example
from mshnet_pl.app.pictures import BRUSH
from page_server import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

OF_GRADIO = "upload_progress", "Response", "No draw texture found for layer"
"""In the errors that Gradio 6 itself writes to the console: after a refused upload, and for an editor's given strokes."""
FEW_FRAMES = """
    window.requestAnimationFrame = draw => setTimeout(() => draw(performance.now()), 300);
    window.cancelAnimationFrame = clearTimeout;
"""
"""Three a second: the editor draws its picture anew in each, which without a GPU keeps a core busy."""


@pytest.fixture(scope="module")
def address(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a running ``mshnet-app``."""
    pytest.importorskip("gradio")
    with serving(checkpoint, tmp_path_factory.mktemp("app")) as server:
        yield server.url


@pytest.fixture
def visit(browser: "Browser", address: str) -> Iterator[Callable[[], "Visitor"]]:
    """New visitors; none of their browsers asks another host for anything, or has an error that is not Gradio's own."""
    errors: list[str] = []
    requests: list[str] = []
    contexts = []

    def new() -> Visitor:
        contexts.append(browser.new_context(viewport={"width": 1000, "height": 900}))
        page = contexts[-1].new_page()
        page.add_init_script(FEW_FRAMES)
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console", lambda line: errors.append(f"{line.text} {line.location['url']}") if line.type == "error" else None
        )
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        return Visitor(page)

    yield new
    for context in contexts:
        context.close()
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    assert [error for error in errors if not any(known in error for known in OF_GRADIO)] == []


class Visitor:
    """What somebody at the page does and sees."""

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.button("Segment").wait_for()

    def button(self, name: str) -> "Locator":
        return self.page.get_by_role("button", name=name, exact=True)

    def show(self, path: Path) -> None:
        """Choose a picture of the object."""
        self.page.locator("input[data-testid=file-upload]:not([multiple])").last.set_input_files(path)

    def search(self, path: Path) -> None:
        """Choose a picture to search."""
        self.page.locator("input[data-testid=file-upload][multiple]").set_input_files(path)

    def told(self, message: str) -> None:
        """Wait for a message on the page, and close it."""
        toast = self.page.get_by_test_id("toast-body").filter(has_text=message)
        toast.wait_for()
        toast.get_by_test_id("toast-close").click()

    def paint(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A stroke of the chosen tool; places are fractions of the canvas's width and height."""
        canvas = self.page.locator("canvas").first
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        (x, y), (to_x, to_y) = ((box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in (start, end))
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(to_x, to_y, steps=4)
        self.page.mouse.up()

    def redraw(self, act: Callable[[], None]) -> None:
        """Do what sets up the editor anew, and wait for it."""
        self.page.evaluate("document.querySelectorAll('canvas').forEach(canvas => canvas.classList.add('old'))")
        act()
        self.page.locator("canvas:not(.old)").first.wait_for()

    def change(self, act: Callable[[], None]) -> None:
        """Do what changes the results, and wait until they have changed."""
        pictures = "[...document.querySelectorAll('#results img')].map(image => image.src).join()"
        before = self.page.evaluate(pictures)
        act()
        self.page.wait_for_function(f"before => ![before, ''].includes({pictures})", arg=before)

    def masks(self) -> list[np.ndarray]:
        """What Download gives; (H, W) with 0 and 255 each."""
        with self.page.expect_download() as download:
            self.button("Download masks").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            return [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()]


def assert_masks(found: list[np.ndarray], segmenter: Segmenter, images: list[Image.Image], threshold: float = 0.5) -> None:
    """As the fitted segmenter's; probabilities next to the threshold may be rounded otherwise in another process."""
    assert len(found) == len(images)
    for mask, probability in zip(found, segmenter.predict_proba(images), strict=True):
        unclear = np.abs(probability - threshold) < 1e-4
        assert mask.shape == probability.shape and set(np.unique(mask)) == {0, 255}
        assert np.array_equal((mask == 255) | unclear, (probability > threshold) | unclear)


def object_of(name: str) -> np.ndarray:
    return SOURCE.mask(name, [CLASS_ID])


def picture_of(visitor: Visitor, number: int) -> np.ndarray:
    source = visitor.page.locator("#results img").nth(number).get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(visitor.page.request.get(source).body())).convert("RGB")).astype(int)


def test_the_example_is_outlined_and_its_masks_are_exact(visit: Callable[[], Visitor], checkpoint: Path) -> None:
    visitor = visit()
    visitor.change(visitor.button("Try an example").click)
    assert np.abs(picture_of(visitor, 1) - picture_of(visitor, 0)).mean() > 1
    segmenter = Segmenter.from_checkpoint(checkpoint).fit(*example.one_coin())
    images = [example.photo()]
    assert_masks(visitor.masks(), segmenter, images)

    def set_threshold() -> None:
        box = visitor.page.get_by_label("number input for Threshold")
        box.fill("0.52")
        box.press("Enter")

    visitor.change(set_threshold)
    assert_masks(visitor.masks(), segmenter, images, 0.52)
    visitor.page.get_by_role("button", name="How similar").click()
    (first,) = [segmenter.energy(images[0])["cosine"][2]]
    visitor.page.get_by_text(f"cosine 2: {first.min():.2f} to {first.max():.2f}").wait_for()

    visitor.button("Try an example").click()
    visitor.told("Start over first")
    visitor.button("Start over").click()
    visitor.button("Remove this picture").wait_for(state="hidden")
    visitor.button("Try an example").click()
    visitor.button("Remove this picture").wait_for()


def test_without_a_checkpoint_the_default_network_finds_coins(browser: "Browser", tmp_path: Path) -> None:
    """On a real photo: the example, then a coin of another part of it, painted by hand."""
    photo = example.photo()
    photo.crop((10, 220, 90, 300)).save(tmp_path / "one.png")
    photo.save(tmp_path / "coins.png")
    with serving(None, tmp_path) as server:
        page = browser.new_page(viewport={"width": 1000, "height": 1300})
        page.add_init_script(FEW_FRAMES)
        page.set_default_timeout(120_000)
        page.goto(server.url)
        visitor = Visitor(page)
        told = page.locator("#network").inner_text()
        assert "Network: training-free." in told and "ImageNet" in told and "synthetic" not in told
        visitor.change(visitor.button("Try an example").click)
        (found,) = visitor.masks()
        assert_coins(found)
        visitor.button("Start over").click()
        visitor.button("Remove this picture").wait_for(state="hidden")
        visitor.redraw(lambda: visitor.show(tmp_path / "one.png"))
        visitor.search(tmp_path / "coins.png")
        for height in (0.35, 0.5, 0.65):
            visitor.paint((0.3, height), (0.65, height))
        visitor.change(visitor.button("Segment").click)
        (found,) = visitor.masks()
        assert_coins(found, alone=False)  # strokes are rough: what lies around a coin may count, too
        page.close()


def assert_coins(mask: np.ndarray, alone: bool = True) -> None:
    """In rows and columns of coins the object is on coins, and, if ``alone``, not between the rows."""
    rows, columns = (54, 124, 194), (45, 155, 205)
    assert mask.shape == (303, 384) and all(mask[y, x] for y in rows for x in columns)
    assert not alone or not any(mask[(y + 35), ::8].mean() > 128 for y in rows)


def test_strokes_and_mask_files_of_several_pictures(visit: Callable[[], Visitor], checkpoint: Path, tmp_path: Path) -> None:
    names, query = ("val-03-0000", "val-03-0003"), SOURCE.image("val-03-0001").crop((0, 0, 384, 300))
    for name in names:
        SOURCE.image(name).save(tmp_path / f"{name}.png")
        Image.fromarray(object_of(name)).save(tmp_path / f"{name}_mask.png")
    query.save(tmp_path / "query.png")
    visitor = visit()
    segment = visitor.button("Segment").click
    visitor.redraw(lambda: visitor.show(tmp_path / f"{names[0]}.png"))
    visitor.search(tmp_path / "query.png")
    segment()
    visitor.told("The mask is empty")
    visitor.paint((0.4, 0.4), (0.5, 0.6))
    visitor.change(segment)
    (of_one_stroke,) = visitor.masks()
    visitor.paint((0.55, 0.3), (0.6, 0.7))
    visitor.change(segment)
    assert not np.array_equal(of_one_stroke, *visitor.masks())
    visitor.redraw(visitor.button("Clear canvas").click)
    segment()
    visitor.told("The mask is empty")

    def use_mask(name: str) -> None:
        files = visitor.page.get_by_test_id("Use a mask file-upload-button")
        visitor.redraw(lambda: files.set_input_files(tmp_path / f"{name}_mask.png"))

    first, second = ((SOURCE.image(name), object_of(name)) for name in names)
    segmenter = Segmenter.from_checkpoint(checkpoint)
    use_mask(names[0])
    visitor.change(segment)
    assert_masks(visitor.masks(), segmenter.fit(*first), [query])
    visitor.redraw(lambda: visitor.show(tmp_path / f"{names[1]}.png"))
    use_mask(names[1])
    visitor.change(segment)
    assert_masks(visitor.masks(), segmenter.fit(*zip(first, second, strict=True)), [query])
    visitor.redraw(visitor.page.locator("#kept button").first.click)  # the first becomes the one that is painted
    visitor.redraw(visitor.button("Remove this picture").click)
    visitor.change(segment)
    assert_masks(visitor.masks(), segmenter.fit(*second), [query])

    other = visit()
    other.search(tmp_path / "query.png")
    other.button("Segment").click()
    other.told("Show the object first")


@pytest.mark.slow
def test_a_quick_visitor_is_answered(visit: Callable[[], Visitor], tmp_path: Path) -> None:
    """Also where an event comes in while Gradio's server closes the stream of answers after the one before."""
    SOURCE.image(SUPPORT).save(tmp_path / "query.png")
    for _ in range(40):
        visitor = visit()
        visitor.search(tmp_path / "query.png")
        visitor.button("Segment").click()
        visitor.told("Show the object first")
        visitor.page.context.close()


def test_what_cannot_be_used_is_said_on_the_page(visit: Callable[[], Visitor], tmp_path: Path) -> None:
    for name, size in (("big.png", 100 * 10**6), ("notes.png", 0)):
        with (tmp_path / name).open("wb") as file:
            file.write(b"no picture")
            file.truncate(size or None)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    SOURCE.image(SUPPORT).save(tmp_path / "good.png")
    visitor = visit()
    for choose in (visitor.search, visitor.show):
        choose(tmp_path / "big.png")
        visitor.told("exceed the maximum allowed size of 20.0 Mb")
        choose(tmp_path / "notes.png")
        visitor.told("notes.png is no image that can be read")
        choose(tmp_path / "huge.png")
        visitor.told("huge.png is too large; give an image of at most 40 megapixels")


def test_boxes_points_and_what_it_is_not(visit: Callable[[], Visitor], tmp_path: Path) -> None:
    """Drawn with the mouse: the mask that is made is shown; a picture of something else changes what is found."""
    SOURCE.image(SUPPORT).save(tmp_path / "support.png")
    SOURCE.image("val-05-0001").save(tmp_path / "other.png")
    visitor = visit()
    segment = visitor.button("Segment").click
    visitor.redraw(lambda: visitor.show(tmp_path / "support.png"))
    visitor.search(tmp_path / "support.png")

    def made() -> np.ndarray:
        """Where the picture of the made mask is tinted, but for 3%, as shares of height and width: top left bottom right."""
        shown = visitor.page.locator("#made img").first
        shown.wait_for()
        url = shown.get_attribute("src")
        assert url is not None
        picture = np.asarray(Image.open(io.BytesIO(visitor.page.request.get(url).body())).convert("RGB"), int)
        plain = np.asarray(SOURCE.image(SUPPORT).convert("RGB"), int)
        tinted = plain + 0.4 * (np.array(BRUSH) - plain)
        nearer = np.abs(picture - tinted).sum(2) + 30 < np.abs(picture - plain).sum(2)
        edges = np.quantile(np.argwhere(nearer), (0.03, 0.97), axis=0)
        return edges.flatten() / (*nearer.shape, *nearer.shape)

    visitor.page.get_by_label("A box: a stroke from corner to corner").check()
    visitor.paint((0.3, 0.3), (0.7, 0.6))
    visitor.change(segment)
    box = made()
    assert (box >= (0.2, 0.2, 0, 0)).all() and (box <= (1, 1, 0.7, 0.8)).all()  # the brush is 24 pixels wide
    (of_box,) = visitor.masks()
    visitor.page.get_by_label("Some strokes or points on it").check()
    visitor.change(segment)
    (of_stroke,) = visitor.masks()
    assert not np.array_equal(of_box, of_stroke)
    visitor.redraw(lambda: visitor.show(tmp_path / "other.png"))
    visitor.paint((0.5, 0.5), (0.5, 0.5))
    visitor.page.get_by_label("This picture shows what it is not").check()
    visitor.change(segment)
    (without,) = visitor.masks()
    assert (without <= of_stroke).all() and (without < of_stroke).any()
    visitor.redraw(visitor.page.locator("#kept button").first.click)
    visitor.redraw(visitor.button("Remove this picture").click)
    segment()
    visitor.told("All pictures show what it is not")
