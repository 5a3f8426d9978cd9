"""Masks of one's own images: of one object, or label maps."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from PIL import ImageOps

from mshnet_pl.data.io.images import decoding
from mshnet_pl.data.io.masks import mark, one_channel
from mshnet_pl.data.sources.verification import MaskReader
from mshnet_pl.options import UNKNOWN


def folder_masks(wanted: Mapping[str, tuple[int, int | None]], value_of: Mapping[int, int]) -> MaskReader:
    """Masks of one object by the rule of ``data.io.masks``, and label maps; turned as their EXIF orientation says.

    Args:
        wanted: class and pixel value (None where the mask shows one object) of every entry.
        value_of: the pixel value of every class where all masks agree on it.
    """

    def areas(name: str, mask: np.ndarray) -> dict[int, int]:
        class_id, value = wanted[name]
        others = {c: int((mask == v).sum()) for c, v in value_of.items()}
        return {**{c: n for c, n in others.items() if n}, class_id: int((mask == own_value(value)).sum())}

    settings = sorted(wanted.items(), key=lambda item: item[0]), sorted(value_of.items())
    said = f"FolderMasks(turned, by colours, {hashlib.sha256(repr(settings).encode()).hexdigest()})"
    return MaskReader(said, lambda name, path: read_values(path, wanted[name][1]), areas, turned=True)


def own_value(value: int | None) -> int:
    """The object's value in what ``read_values`` gives."""
    return 1 if value is None else value


def read_values(path: Path, value: int | None) -> Integer[np.ndarray, "height width"]:
    """A label map's values; or without ``value`` 1 where the object is, 255 where nothing is known, 0 elsewhere.

    Raises:
        ValueError: the file cannot be read, shows no object or not clearly which; names it.
    """
    with decoding(path) as stored:
        marked = mark(stored, value)
        if value is not None:
            return one_channel(np.asarray(ImageOps.exif_transpose(stored)))
    return np.where(marked.shown, np.uint8(1), np.where(marked.unknown, np.uint8(UNKNOWN), np.uint8(0)))
