"""One's own pictures: a rectangle on a ramp, folders of it for ``mshnet-predict``, and a picture of very many pixels."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from conftest import Command, Done

SIZE = (64, 48)
CORNERS = [(10, 6), (50, 6), (50, 40), (10, 40)]


def picture(shift: int = 0) -> Image.Image:
    """A gray rectangle on a ramp."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    image = Image.fromarray(np.stack([2 * x + shift, 3 * y, x + y], axis=2).astype(np.uint8))
    ImageDraw.Draw(image).polygon(CORNERS, fill=(200, 40, 90))
    return image


def mask() -> Image.Image:
    image = Image.new("L", SIZE)
    ImageDraw.Draw(image).polygon(CORNERS, fill=255)
    return image


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """``support`` with an image and its mask, and ``query`` with an image."""
    for part in ("support/images", "support/masks", "query"):
        (tmp_path / part).mkdir(parents=True)
    picture().save(tmp_path / "support" / "images" / "a.png")
    mask().save(tmp_path / "support" / "masks" / "a.png")
    picture(9).save(tmp_path / "query" / "q.png")
    return tmp_path


@pytest.fixture
def predict(own: Path, command: Command, checkpoint: Path) -> Callable[..., Done]:
    """Runs in ``own`` with its ``support`` and ``query``, unless others are given, into ``out``."""

    def run(*settings: str) -> Done:
        defaults = {"support": "support", "query": "query", "out": "out"}
        given = {setting.partition("=")[0] for setting in settings}
        return command(
            "mshnet-predict", f"ckpt={checkpoint}", *settings, *(f"{k}={v}" for k, v in defaults.items() if k not in given)
        )

    return run


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "predictions.json").read_text())
    return content


def big_png(path: Path, width: int, height: int) -> None:
    """A black picture of 1 bit, row by row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    row, packer = bytes(1 + (width + 7) // 8), zlib.compressobj(1)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([1, 0, 0, 0, 0])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
