"""Predictions to look at."""

import colorsys
import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy.ndimage import binary_erosion

from mshnet_pl.errors import one_line

_TINT = 0.4
"""How much of the class's colour lies over an object."""
SIDE = 220
"""Longer side of a contact sheet's pictures in pixels."""
_GAP, _LINE = 8, 16
"""Between them, and of a caption, in pixels."""


def colours(count: int) -> list[tuple[int, int, int]]:
    """Colours that are easy to tell apart, the same whatever the count."""
    hues = ((0.08 + 0.618 * i) % 1 for i in range(count))
    return [tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.9, 1)) for hue in hues]  # type: ignore[misc]


def mask_image(labels: Integer[np.ndarray, "height width"], way: int) -> Image.Image:
    """One class: 0 and 255. Several: the labels with a palette, background black."""
    if way == 1:
        return Image.fromarray((255 * labels).astype(np.uint8))
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, *(value for colour in colours(way) for value in colour)])
    return image


def overlay(image: Image.Image, labels: Integer[np.ndarray, "height width"]) -> Image.Image:
    """The RGB image with every object tinted and outlined in its class's colour."""
    pixels = np.array(image)
    width = max(1, round(max(image.size) / 200))
    for label, colour in enumerate(colours(int(labels.max())), start=1):
        inside = labels == label
        tinted = pixels[inside].astype(np.float32)
        pixels[inside] = (tinted + _TINT * (np.array(colour, np.float32) - tinted)).round()
        pixels[inside & ~binary_erosion(inside, iterations=width, border_value=1)] = colour
    return Image.fromarray(pixels)


def contact_sheet(panels: Sequence[tuple[str, Image.Image]], columns: int = 5) -> Image.Image:
    """Small pictures in rows, each with its caption."""
    columns = min(columns, len(panels))
    wide, high = SIDE + _GAP, SIDE + _LINE + _GAP
    sheet = Image.new("RGB", (columns * wide + _GAP, -(-len(panels) // columns) * high + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (caption, picture) in enumerate(panels):
        x, y = _GAP + i % columns * wide, _GAP + i // columns * high
        caption = one_line(caption.encode(errors="replace").decode())  # names of files need not be UTF-8
        shown = caption if len(caption) <= 36 else f"{caption[:18]}...{caption[-15:]}"
        draw.text((x, y), unicodedata.normalize("NFC", shown), "black", _font())
        sheet.paste(ImageOps.pad(picture, (SIDE, SIDE), color="white"), (x, y + _LINE))
    return sheet


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu, which comes with matplotlib: unlike Pillow's own it has letters with accents, Greek and Cyrillic ones."""
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    return ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"), 10)
