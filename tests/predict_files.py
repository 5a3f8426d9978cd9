"""Supports and queries for ``mshnet-predict``, drawn into folders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Command, Done
from mshnet_pl.data.sources.synthetic import Synthetic

SOURCE = Synthetic(size=70)


def draw(folder: Path, class_id: int, numbers: range, mask_value: int = 255) -> None:
    """``images/N.jpg`` and ``masks/N.png`` of a class."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in numbers:
        name = f"val-{class_id:02d}-{number:04d}"
        SOURCE.image(name).save(folder / "images" / f"{number}.jpg", quality=95)
        Image.fromarray(SOURCE.mask(name, [class_id]) * mask_value).save(folder / "masks" / f"{number}.png")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """``support``, and ``query`` with an image of every kind that there is."""
    draw(tmp_path / "support", 0, range(2))
    query = tmp_path / "query"
    query.mkdir()
    image = SOURCE.image("val-00-0005")
    image.save(query / "a.png")
    image.crop((0, 0, 60, 40)).save(query / "a.jpg", quality=95)
    image.convert("L").save(query / "gray.png")
    image.quantize(64).save(query / "palette.png")
    exif = image.getexif()
    exif[0x0112] = 6
    image.crop((0, 0, 70, 50)).save(query / "turned.jpg", exif=exif, quality=95)
    image.convert("RGBA").save(query / "alpha.webp", lossless=True)
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(query / "deep.png")
    pages = [SOURCE.image(f"val-00-{i:04d}").crop((0, 0, 70 - i, 70)) for i in range(3)]
    pages[0].save(query / "stack.tif", save_all=True, append_images=pages[1:])
    (query / "notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def predict(command: Command, checkpoint: Path) -> Callable[..., Done]:
    return lambda *settings: command("mshnet-predict", f"ckpt={checkpoint}", *settings)


def draw_queries(folder: Path, count: int) -> None:
    """``support`` with an image and its mask, and ``query/N.png``, of which every 25th is alike."""
    source = Synthetic(size=80)
    for part in ("support/images", "support/masks", "query"):
        (folder / part).mkdir(parents=True)
    source.image("val-00-0000").save(folder / "support/images/a.png")
    Image.fromarray(255 * source.mask("val-00-0000", [0])).save(folder / "support/masks/a.png")
    for number in range(count):
        source.image(f"val-00-{number % 25:04d}").save(folder / f"query/{number}.png")
