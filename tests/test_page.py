"""The page of ``mshnet-report`` in a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Command
from report_runs import config, write_run
from test_cli import TINY

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
UNKNOWN = "\u2013"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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


@pytest.fixture(scope="module")
def browser() -> "Iterator[sync_api.Browser]":
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


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
    assert page.locator("svg.chart").count() == 2
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
    names, means = opened.column(0, 1), opened.column(0, 7)
    assert "MSHNet cosine+prototype, <i>&x" in names and "HSNet" in names
    button = page.locator("table").first.get_by_role("button", name="mIoU").first
    for direction, sign in (("descending", -1), ("ascending", 1)):
        button.click()
        known = [float(value) for value in opened.column(0, 7) if value != UNKNOWN]
        assert known == sorted((float(value) for value in means if value != UNKNOWN), key=lambda value: sign * value)
        assert opened.column(0, 7)[-1] == UNKNOWN and page.locator(f"th[aria-sort={direction}]").count() == 1
    assert opened.column(0, 7)[: len(known)] != means[: len(known)]
    page.locator("table").first.get_by_role("button", name="method").click()
    assert opened.column(0, 1) == sorted(names, key=str.lower)
    colours = page.evaluate(
        "['published', 'ours'].map(c => getComputedStyle(document.querySelector('tr.' + c)).backgroundColor)"
    )
    assert colours[0] != colours[1]
    kinds = page.locator(".episodes .tag").all_inner_texts()
    assert kinds == ["best", "median", "worst"] and not opened.complaints
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
