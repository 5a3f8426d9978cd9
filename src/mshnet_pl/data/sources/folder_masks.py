"""Masks as people have them: binary or label maps, with one channel or several, of 1, 8 or 16 bits."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer
from PIL import ImageOps

from mshnet_pl.data.io.images import decoding, one_channel
from mshnet_pl.data.sources.verification import AbstractMaskReader
from mshnet_pl.episode import UNKNOWN

_MAX_VALUES = 12
"""How many of a mask's values a message lists."""


class FolderMasks(AbstractMaskReader):
    """Binary masks and label maps, turned as their EXIF orientation says, and so are their images.

    Args:
        wanted: class and pixel value (None in binary masks) of every entry.
        value_of: the pixel value of every class where all masks agree on it.
    """

    turned = True

    def __init__(self, wanted: Mapping[str, tuple[int, int | None]], value_of: Mapping[int, int]) -> None:
        self._wanted, self._value_of = wanted, value_of

    def __repr__(self) -> str:
        """See the base class."""
        settings = sorted(self._wanted.items(), key=lambda item: item[0]), sorted(self._value_of.items())
        return f"FolderMasks(turned, {hashlib.sha256(repr(settings).encode()).hexdigest()})"

    def read(self, name: str, path: Path) -> np.ndarray:
        """See the base class."""
        return read_values(path)

    def areas(self, name: str, mask: np.ndarray) -> dict[int, int]:
        """See the base class."""
        class_id, value = self._wanted[name]
        shown, _ = separate(mask, value)
        if not shown.any():
            raise ValueError(f"no pixel of the object, only {_values(mask)}; mend the mask, or leave the image out")
        others = {c: int((mask == v).sum()) for c, v in self._value_of.items()}
        return {**{c: n for c, n in others.items() if n}, class_id: int(shown.sum())}


def separate(
    mask: Integer[np.ndarray, "height width"], value: int | None
) -> tuple[Bool[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Where the object is, and where nothing is known.

    Args:
        mask: pixel values.
        value: the object's, or None for a binary mask.

    Raises:
        ValueError: a binary mask with other values, or a label map without the object's; says what to set.
    """
    found = set(np.unique(mask).tolist())
    if value is not None:
        if value not in found:
            raise ValueError(
                f"the values are {_values(mask)}, but not {value}; set data.source.mask_value to the object's, or the "
                "manifest's value column (null or empty for binary masks)"
            )
        return mask == value, (mask == UNKNOWN) & (value != UNKNOWN)
    if not found <= {0, 1, UNKNOWN}:
        raise ValueError(
            f"the values are {_values(mask)}, but a binary mask has 0 and 1, or 0 and 255; if this is a label map, give the "
            "object's value: data.source.mask_value=VALUE, data.source.mask_value={CLASS:VALUE}, or a value column in the "
            "manifest"
        )
    return (mask == 1, mask == UNKNOWN) if 1 in found else (mask == UNKNOWN, np.zeros(mask.shape, bool))


def _values(mask: np.ndarray) -> str:
    values = np.unique(mask).tolist()
    return f"{values[:_MAX_VALUES]}" + (f" and {len(values) - _MAX_VALUES} more" if len(values) > _MAX_VALUES else "")


def read_values(path: Path) -> Integer[np.ndarray, "height width"]:
    """The pixel values of a mask with one channel, or with several equal ones (an alpha channel does not count).

    Raises:
        ValueError: the file cannot be read, or is coloured; names it.
    """
    with decoding(path) as stored:
        values = one_channel(np.asarray(ImageOps.exif_transpose(stored)))
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"pixel values of type {values.dtype}; save it as an 8- or 16-bit grayscale image")
        return values
