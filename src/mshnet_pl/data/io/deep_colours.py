"""Colours of 16 bits in PNG and TIFF, of which Pillow's images keep the upper byte.

The other byte comes from decoding the file once more, with the bytes said to be in the other order. All functions take an
image whose pixels are not decoded yet: they read and change what Pillow calls tiles, ``(codec, box, offset, arguments)``.
"""

import re
import sys
from collections.abc import Callable
from typing import Any

from PIL import Image

_PLANES, _APART, _BITS = 284, 2, 258
"""A TIFF's PlanarConfiguration, its value for a plane a colour, and BitsPerSample."""
_SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def name_planes(stored: Image.Image) -> None:
    """Say that the planes of a TIFF have 16 bits, where Pillow (12.3) takes them for planes of eight and shows noise."""
    tags: Any = getattr(stored, "tag_v2", {})
    if _are_apart(stored) and 16 in tags.get(_BITS, ()):
        end = ";16L" if tags.prefix == b"II" else ";16B"
        _rename(stored, lambda raw: raw + end if raw in ("R", "G", "B", "A") else raw)


def has_deep_colours(stored: Image.Image) -> bool:
    """Whether it is one, of red, green and blue or of gray and alpha."""
    raws = _raws(stored) if stored.format in ("PNG", "TIFF") and stored.mode in ("RGB", "RGBA", "RGBX") else []
    return any(re.fullmatch(".*;16[LBN]", raw) for raw in raws)


def take_lower_bytes(stored: Image.Image) -> list[int]:
    """Have an image of deep colours decoded as their lower bytes.

    Returns:
        The channels that red, green and blue are then.

    Raises:
        ValueError: they are stored in a way that does not allow it.
    """
    raws = _raws(stored)
    if raws == ["LA;16B"]:  # upper and lower byte of gray, and of alpha
        _rename(stored, lambda raw: "RGBA")
        return [1, 1, 1]
    if _are_apart(stored) and any(codec == "libtiff" for codec, *_ in _tiles(stored)):
        raise ValueError(
            "dark colours of 16 bits in compressed planes; store them side by side (gdal_translate -co INTERLEAVE=PIXEL)"
        )
    if not all(re.fullmatch("(RGB|RGBX|RGBA|[RGBA]);16[LBN]", raw) for raw in raws):
        raise ValueError("dark colours of 16 bits that are multiplied by alpha; save it without alpha")
    _rename(stored, lambda raw: raw[:-1] + _SWAPPED[raw[-1]])
    return [0, 1, 2]


def _are_apart(stored: Image.Image) -> bool:
    tags: Any = getattr(stored, "tag_v2", {})
    return tags.get(_PLANES) == _APART


def _tiles(stored: Image.Image) -> list[Any]:
    return getattr(stored, "tile", [])


def _raws(stored: Image.Image) -> list[str]:
    """How Pillow calls the layout of bytes in every tile, such as ``RGB;16B``."""
    return [arguments if isinstance(arguments, str) else arguments[0] for _, _, _, arguments in _tiles(stored)]


def _rename(stored: Image.Image, name: Callable[[str], str]) -> None:
    def renamed(tile: Any) -> Any:  # noqa: ANN401
        arguments = tile[3]
        arguments = name(arguments) if isinstance(arguments, str) else (name(arguments[0]), *arguments[1:])
        return tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)  # from Pillow 11 on

    _tiles(stored)[:] = map(renamed, _tiles(stored))
