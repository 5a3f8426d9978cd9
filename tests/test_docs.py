"""The pages of docs/ and the README: every block of commands or Python runs, from top to bottom; every link leads somewhere.

A block of ``console`` is shown and not run: it needs a network, a server that does not end, or hours.
"""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, Command
from tiny import TINY_RUN

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    if re.search(r"^```(bash|python)$", path.read_text(), re.MULTILINE)
)
TINY_TRAINING = [*TINY_RUN, "model.width=4", "backbone=efficientnet_lite0"]
"""So small that a training takes seconds, whatever the page asks for."""


def blocks(page: str) -> list[tuple[str, str]]:
    """The page's blocks in order: language and content."""
    return re.findall(r"^```(bash|python)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def photos(tmp_path: Path) -> None:
    """``support`` with images and masks of a disc, and ``query``."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :80]
    for i in range(4):
        disc = (rows - 30 - i) ** 2 + (columns - 35 - 2 * i) ** 2 < 200
        pixels = rng.integers(0, 60, (64, 80, 3)) + 180 * disc[..., None]
        folder = tmp_path / ("support/images" if i < 2 else "query")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        if i < 2:
            (tmp_path / "support/masks").mkdir(exist_ok=True)
            Image.fromarray(disc).save(tmp_path / f"support/masks/{i}.png")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("photos")
def test_every_block_runs(page: str, command: Command, pascal_root: Path) -> None:
    voc = pascal_root.rename(pascal_root.parent / "VOC2012")
    (voc / "splits").rename(voc.parent / "splits")
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    names = [path.stem for path in (voc / "JPEGImages").glob("val_*")]
    (voc / "ImageSets/Segmentation/val.txt").write_text("\n".join(names))
    namespace: dict[str, object] = {}
    for language, content in blocks(page):
        if language == "python":
            exec(compile(content, page, "exec"), namespace)
            continue
        for line in content.splitlines():
            name, *arguments = shlex.split(line, comments=True)
            if name == "mshnet-train" and not {"--help", "--cfg"} & {*arguments}:
                arguments += TINY_TRAINING
                arguments += ["data.splits_dir=splits"] if "data=pascal5i" in arguments else []
            done = command(name, *arguments)
            assert done.code == 0, f"{page}: {line}\n{done.err}"


@pytest.mark.parametrize("notebook", sorted((ROOT / "docs/notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore:.*::pytorch_lightning")  # the command silences them, in other processes
def test_every_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell, the experiment smaller; no stored output is an error."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        exec(compile("".join(cell["source"]), notebook.name, "exec"), namespace)
        if "settings" in namespace and "run" not in namespace:
            namespace["settings"] += TINY_TRAINING
    assert not [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]


@pytest.mark.parametrize(
    "page", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("**/*.md") if ".venv" not in path.parts)
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)):
        path, _, anchor = target.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, f"{page}: {target}"


def test_the_methods_page_counts_lines() -> None:
    """Of the eight published methods' folders."""
    page = (ROOT / "docs" / "methods.md").read_text()
    counted = {name.lower(): int(lines) for name, lines in re.findall(r"(?m)^\| (\w+) \| [^|]+ \| (\d+) \| [\d,]{9}", page)}
    folders = [ROOT / "src" / "mshnet_pl" / "models" / name for name in counted]
    assert len(counted) == 8
    assert counted == {path.name: sum(len(p.read_text().splitlines()) for p in path.glob("*.py")) for path in folders}
