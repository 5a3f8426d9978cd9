"""The page of ``mshnet-report`` in a browser."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import Command
from mshnet_pl.report.collection import collect
from mshnet_pl.report.page import render
from mshnet_pl.report.tables import tables, unexplained
from report_runs import config, write_run
from test_cli import TINY

if TYPE_CHECKING:
    from playwright import sync_api

UNKNOWN = "\u2013"


class Opened:
    """A page, and everything that it complained about or asked for."""

    def __init__(self, page: "sync_api.Page", path: Path) -> None:
        self.page, self.complaints, self.requests = page, [], []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(path.as_uri())

    def column(self, table: int, place: int) -> list[str]:
        """A column's texts, without the intervals."""
        script = "([t, c]) => [...document.querySelectorAll('table')[t].tBodies[0].rows].map(r => r.cells[c].innerText)"
        return [text.split("\n")[0] for text in self.page.evaluate(script, [table, place])]


def test_page_of_real_runs(command: Command, tmp_path: Path, browser: "sync_api.Browser") -> None:
    done = command("mshnet-train", "-m", *TINY, "fold=0,1", "trainer.log_every_n_steps=1")
    assert done.code == 0, done.err
    done = command("mshnet-report", tmp_path / "runs")
    assert done.code == 0, done.err
    path = tmp_path / "runs" / "report.html"
    assert f"page: {path}" in done.err
    opened = Opened(browser.new_page(viewport={"width": 390, "height": 844}), path)
    page = opened.page
    assert page.locator("table").count() == 2 and page.locator("caption").count() == 2
    titles = [text.split(" of MSHNet")[0] for text in page.locator("#training svg.chart > title").all_text_contents()]
    assert titles == ["loss", "parts of the loss, mean over the runs", "mIoU, %"] and page.locator("svg.chart").count() == 4
    images = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.alt])")
    assert len(images) >= 2 * 4 and all(width > 0 and alt for width, alt in images)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "missing: folds 2, 3, 1-shot of MSHNet cosine+prototype" in page.locator(".missing").inner_text()
    assert not opened.complaints
    assert [url for url in opened.requests if not url.startswith("data:")] == [path.as_uri()]


def test_sorting_and_published_rows(command: Command, tmp_path: Path, browser: "sync_api.Browser") -> None:
    for fold in range(4):
        write_run(tmp_path / "runs" / f"{fold}", config(fold), 0.6, 40)
    write_run(tmp_path / "runs" / "<b>", config(changes={"variant": "<i>&x"}), 0.5, 40, pictures=True)
    for _ in range(2):  # the command's own page is replaced
        assert command("mshnet-report", tmp_path / "runs", f"html={tmp_path / 'out.html'}").code == 0
    opened = Opened(browser.new_page(), tmp_path / "out.html")
    page = opened.page
    names, means = opened.column(0, 0), opened.column(0, 5)
    assert "MSHNet cosine+prototype, <i>&x" in names and "HSNet" in names
    button = page.locator("table").first.get_by_role("button", name="mIoU").first
    for direction, sign in (("descending", -1), ("ascending", 1)):
        button.click()
        known = [float(value) for value in opened.column(0, 5) if value != UNKNOWN]
        assert known == sorted((float(value) for value in means if value != UNKNOWN), key=lambda value: sign * value)
        assert opened.column(0, 5)[-1] == UNKNOWN and page.locator(f"th[aria-sort={direction}]").count() == 1
    assert opened.column(0, 5)[: len(known)] != means[: len(known)]
    page.locator("table").first.get_by_role("button", name="method").click()
    assert opened.column(0, 0) == sorted(names, key=str.lower)
    colours = page.evaluate(
        "['published', 'ours'].map(c => getComputedStyle(document.querySelector('tr.' + c)).backgroundColor)"
    )
    assert colours[0] != colours[1]
    kinds = page.locator(".episodes .tag").all_inner_texts()
    assert kinds == ["best", "median", "worst"] and not opened.complaints
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 4 folds with 1 and 5 shots."""
    root = tmp_path_factory.mktemp("sweep")
    for fold in range(4):
        for shot in (1, 5):
            write_run(root / "runs" / f"{fold}_{shot}", config(fold, shot), 0.6, 60, pictures=fold == 0)
    found = collect([root / "runs"])
    made = tables(found.tests, found.failures)
    (root / "report.html").write_text(render(made, found, unexplained(made, found.failures), ["a note"], each=1))
    return root / "report.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut(sweep: Path, browser: "sync_api.Browser", width: int) -> None:
    """What is wider than the page are tables, which scroll by themselves; at 1280 pixels none of the scores' has to."""
    opened = Opened(browser.new_page(viewport={"width": width, "height": 844}), sweep)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    over = "e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll')"
    assert page.evaluate(f"[...document.querySelectorAll('body *')].filter({over}).map(e => e.outerHTML.slice(0, 80))") == []
    assert page.locator(".scroll").count() == 2 == page.locator("table").count()
    fits = page.evaluate("[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth <= e.clientWidth)")
    assert all(fits) == (width == 1280)
    # what a chart says lies inside of it, in letters that can be read
    outside = """svg => { const box = svg.getBoundingClientRect(); return [...svg.querySelectorAll("text")].filter(
        text => { const own = text.getBoundingClientRect();
                  return own.left < box.left || own.right > box.right || own.height < 8; }).map(e => e.textContent) }"""
    assert page.evaluate(f"[...document.querySelectorAll('svg.chart')].flatMap({outside})") == []


def test_curves_can_be_told_apart(sweep: Path, browser: "sync_api.Browser") -> None:
    """Every line of the loss has a colour and a line style of its own, which the legend repeats."""
    page = Opened(browser.new_page(), sweep).page
    looks = page.evaluate("""[...document.querySelectorAll("#training svg.chart")[0].querySelectorAll("path")].map(
        path => [path.style.stroke, path.style.strokeDasharray]).filter(look => look[0].startsWith("rgb"))""")
    drawn = [tuple(look) for look in looks if looks.count(look) == 2]
    assert len(drawn) == 8 and len({*drawn}) == 4 and len({colour for colour, _ in drawn}) == 4


def test_a_click_enlarges_an_episode(sweep: Path, browser: "sync_api.Browser") -> None:
    page = Opened(browser.new_page(viewport={"width": 1280, "height": 800}), sweep).page
    small = page.locator("button.panels").first
    assert small.locator("img").count() == 4 and page.locator("dialog").count() == 0
    before = small.locator("img").first.bounding_box()
    small.click()
    large = page.locator("dialog[open] img")
    large.first.wait_for()
    after = large.first.bounding_box()
    assert before and after and large.count() == 4 and after["width"] > 2.5 * before["width"]
    assert "IoU" in page.locator("dialog figcaption").inner_text()
    page.locator("dialog").click()
    page.wait_for_selector("dialog", state="detached")  # a moment after the click
    small.press("Enter")  # and by the keyboard
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


def test_provenance_says_once_what_is_common(sweep: Path, browser: "sync_api.Browser") -> None:
    page = Opened(browser.new_page(), sweep).page
    table = page.locator("#provenance table")
    heads = table.locator("thead th").all_inner_texts()
    assert {"fold", "shot", "mIoU", "folder"} <= {*heads} and not {"method", "protocol", "git"} & {*heads}
    assert (
        "Of all tests: method MSHNet cosine+prototype, ResNet-50; weights best; training seed 0;"
        in table.locator("caption").inner_text()
    )
