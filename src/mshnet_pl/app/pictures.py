"""Pictures as a page takes and shows them: looked at before they are decoded, small, outlined."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import colormaps
from PIL import Image

from mshnet_pl.errors import DataError
from mshnet_pl.inference.draw import colours, overlay

BRUSH, NOT_IT = colours(2)
"""The colours of strokes on the object, and on what is not it."""
OPACITY = 160
"""Of strokes, from 0 to 255."""
MAX_PIXELS = 40_000_000
"""Of one picture, and of all queries together."""
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
_SIDE = 1024
"""Longer side of pictures on the page, and of supports, in pixels."""
_MAX_LAYERS = 4
"""Of the editor, which has one for given strokes and one to paint on."""
_Read = TypeVar("_Read")


def check(path: str, max_pixels: int = MAX_PIXELS) -> int:
    """Look at the header of a file, without decoding more of it.

    Returns:
        How many pixels the image has.

    Raises:
        DataError: it is no image, or too large; gives the file's name without its folder.
    """
    name = Path(path).name
    try:
        with Image.open(path, formats=_FORMATS) as header:
            if header.width * header.height <= max_pixels:
                return header.width * header.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass
    except Exception as error:  # damaged files bring the decoders to raise almost anything
        raise DataError(f"{name} is no image that can be read; give a PNG, JPEG, WebP or TIFF file") from error
    raise DataError(f"{name} is too large; give an image of at most {max_pixels // 10**6} megapixels")


def read(path: str, reader: Callable[[str], _Read]) -> _Read:
    """What ``reader`` makes of a file that passes ``check``; errors give its name without its folder."""
    check(path)
    try:
        return reader(path)
    except DataError as error:
        raise DataError(str(error).replace(path, Path(path).name)) from error


def thumbnail(image: Image.Image) -> Image.Image:
    """A copy that fits the page."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    return small


class Strokes(NamedTuple):
    """What is painted on a picture."""

    object: Bool[np.ndarray, "height width"]
    background: Bool[np.ndarray, "height width"]

    @classmethod
    def none(cls, size: tuple[int, int]) -> "Strokes":
        """Nothing, on a picture of that width and height."""
        return cls(*np.zeros((2, *size[::-1]), bool))

    def layer(self) -> Image.Image:
        """As a layer of the editor, RGBA: each in its colour, transparent elsewhere."""
        pixels = np.where(self.object[..., None], [*BRUSH, OPACITY], 0)
        return Image.fromarray(np.where(self.background[..., None], [*NOT_IT, OPACITY], pixels).astype(np.uint8))


def painted(paths: Sequence[str], size: tuple[int, int]) -> Strokes:
    """What the editor's layers, image files with alpha, show at ``size``, width and height; the latest stroke counts.

    Raises:
        DataError: too many layers, or one that is larger than the editor or cannot be read.
    """
    if len(paths) > _MAX_LAYERS:
        raise DataError(f"{len(paths)} layers of strokes; the page has at most {_MAX_LAYERS}")
    object_, background = Strokes.none(size)
    for path in paths:
        check(path, 4 * _SIDE**2)
        try:
            with Image.open(path, formats=_FORMATS) as layer:
                pixels = np.asarray(layer.convert("RGBA").resize(size, Image.Resampling.NEAREST)).astype(np.int32)
        except Exception as error:  # as check
            raise DataError(f"{Path(path).name} is no layer of strokes: {error}") from error
        there = pixels[..., 3] > 0
        nearer = np.stack([((pixels[..., :3] - colour) ** 2).sum(-1) for colour in (BRUSH, NOT_IT)]).argmin(0)
        object_ = np.where(there, nearer == 0, object_)
        background = np.where(there, nearer == 1, background)
    return Strokes(object_, background)


def outlined(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """An image with the object outlined; the mask (H, W), bool or 0 and 1, may have another size."""
    resized = Image.fromarray(mask.astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    return overlay(image, np.asarray(resized))


def heat(values: Float[np.ndarray, "height width"]) -> Image.Image:
    """A map's values from dark, its smallest, to bright."""
    spread = max(float(np.ptp(values)), 1e-12)
    return Image.fromarray(colormaps["inferno"]((values - values.min()) / spread, bytes=True)[..., :3])
