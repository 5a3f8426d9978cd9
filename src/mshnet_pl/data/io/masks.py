"""Which pixels of a mask are the object: one rule for files, Pillow images, arrays and tensors, whoever reads them.

With ``value`` the object is what equals it in the stored numbers (of a palette, its indices). Without it:

1. Of two colours the object is the one that is not black. Nearly black counts as black (up to an eighth of the full range)
   if the other has at least half of it. Neither a palette's order nor the object's place in the picture plays a part.
2. Of the three numbers 0, 1 and 255, 1 is the object and 255 unknown.
3. Floating-point numbers from 0 to 1 are probabilities: the object is above 0.5. Of -1 and 1 it is 1.
4. Many grays that crowd at both ends, as JPEG, blurring and matting make them: the object is the brighter half of the range.
5. Where an alpha channel alone tells two parts apart, the object is what is opaque.
6. Everything else, such as a label map, is an error that lists the values.
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped
from PIL import Image, ImageOps
from torch import Tensor

from mshnet_pl.data.io.images import ImageLike, as_array, decoding
from mshnet_pl.errors import DataError
from mshnet_pl.options import UNKNOWN
from mshnet_pl.utils.places import expanded

_BLACK = 1 / 8
"""Share of the full range up to which a value counts as black, where the other is bright."""
_BRIGHT = 1 / 2
_MAX_BETWEEN = 0.3
"""Share of a soft mask's pixels that lie farther than an eighth of its range from both ends."""
_MAX_FLAT = 0.3
"""Share of these that equal their neighbours to the left and above: slopes do not, regions of a label map do."""
_MIN_AGREEMENT = 0.6
"""Intersection over union of a soft mask's objects above a quarter and above three quarters of its range."""
_MIN_LEVELS = 4
"""So many values between a soft mask's ends, or beside the brighter one; label maps have fewer."""
_MAX_LISTED = 12
_GRAY = 8
"""By so much may the channels of a gray mask differ, for what lossy formats do."""
_SMALL, _LARGE = 0.001, 0.95
"""Shares of a picture at which an object is doubtful."""
_WAY_OUT = (
    "give the object's value, value=VALUE (with data=folder: data.source.mask_value=VALUE, or {CLASS:VALUE}, or a value "
    "column in the manifest), or save the mask with 0 for the background and 255 for the object"
)


class Marked(NamedTuple):
    """Where the object is, and where nothing is known."""

    shown: Bool[np.ndarray, "height width"]
    unknown: Bool[np.ndarray, "height width"]
    drawn_in: str = ""
    """The object's value or colour of two, unless it is 1 or white: perhaps a class of a label map."""


def read_mask(mask: ImageLike, value: int | None = None, name: str = "mask") -> Bool[np.ndarray, "height width"]:
    """Where the object is, by the rule at the top of this file; what is unknown counts as background.

    Raises:
        DataError: see ``read_marked``.
    """
    return read_marked(mask, value, name).shown


def read_marked(mask: ImageLike, value: int | None = None, name: str = "mask") -> Marked:
    """What a mask shows, by the rule at the top of this file.

    Args:
        mask: a path, a Pillow image, an array (H, W) or (H, W, C), or a tensor (H, W) or (C, H, W).
        value: the object's value in a label map.
        name: what messages call it; a path's is the path.

    Raises:
        DataError: it cannot be read, is no mask, or shows no object; says which.
    """
    try:
        if not isinstance(mask, str | os.PathLike):
            return mark(mask, value)
        name, path = str(mask), expanded(mask)
        with decoding(path) as stored:
            name = ""
            return mark(stored, value)
    except ValueError as error:
        raise DataError(f"{name}: {error}" if name else f"{error}") from error


def doubt(mask: Bool[np.ndarray, "height width"]) -> str:
    """What is doubtful about an object's area; empty where nothing is."""
    share = float(mask.mean())
    if share > _LARGE:
        return f"the object covers {share:.1%} of the picture: is it the background?"
    return f"the object covers {share:.3%} of the picture" if share < _SMALL else ""


def mark(mask: Image.Image | np.ndarray | Tensor, value: int | None = None) -> Marked:
    """Object and unknown pixels of a mask, turned as its EXIF orientation says.

    Raises:
        ValueError: see ``read_mask``.
    """
    lossy = isinstance(mask, Image.Image) and mask.format in ("JPEG", "MPO")
    mask = ImageOps.exif_transpose(mask) if isinstance(mask, Image.Image) else as_array(mask)
    if value is not None:
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise ValueError(f"value={value!r} is of type {type(value).__name__}; give the object's value, a whole number")
        values = one_channel(np.asarray(mask))
        if not (values == value).any():
            raise ValueError(
                f"no pixel of value {value}, only {_listed(values)}; give a value (data.source.mask_value) of these"
            )
        return Marked(values == value, (values == UNKNOWN) & (value != UNKNOWN))
    if isinstance(mask, Image.Image) and mask.mode in ("P", "PA"):
        return _by_palette(mask)
    return _by_pixels(_plain(mask), lossy)


def one_channel(values: np.ndarray) -> Shaped[np.ndarray, "height width"]:
    """The only channel of (H, W) or (H, W, C), or one of several equal ones; an alpha channel does not count.

    Raises:
        ValueError: channels that differ, another shape, or none of whole numbers.
    """
    colours, _ = _planes(values)
    if colours.ndim == 3:
        raise ValueError(f"a coloured mask, {_listed(colours)}; save it as a grayscale or palette image, one value a class")
    return colours.astype(np.uint8) if colours.dtype == bool else colours


def _plain(mask: Image.Image | np.ndarray) -> np.ndarray:
    if isinstance(mask, Image.Image) and mask.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La"):
        mask = mask.convert({"RGBa": "RGBA", "La": "LA"}.get(mask.mode, "RGB"))
    return np.asarray(mask)


def _planes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Gray (H, W) or colours (H, W, 3), and alpha (H, W) if there is any."""
    channels = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or channels > 4 or not values.size:
        raise ValueError(f"shape {values.shape}; give a mask of one channel, (H, W); of several probabilities, one")
    if values.ndim == 2:
        return values, None
    alpha = values[..., -1] if channels in (2, 4) else None
    colours = values[..., :-1] if alpha is not None else values
    gray = (colours == colours[..., :1]).all()
    return np.ascontiguousarray(colours[..., 0] if gray else colours), alpha


def _by_palette(mask: Image.Image) -> Marked:
    indices = np.asarray(mask if mask.mode == "P" else mask.getchannel(0))
    palette = np.reshape(mask.getpalette() or [0, 0, 0], (-1, 3))
    found = np.unique(indices)
    if [*found] == [0, 1, UNKNOWN] and not palette[0].any():  # as VOC's
        return _labels(indices)
    try:
        pixels = mask.convert("RGBA" if mask.mode == "PA" or "transparency" in mask.info else "RGB")
        return _by_pixels(np.asarray(pixels), lossy=False)
    except ValueError as error:
        colours = {int(i): "#{:02x}{:02x}{:02x}".format(*palette[i]) if i < len(palette) else "none" for i in found}
        raise ValueError(f"the values are {_listed(indices, colours)}; {_WAY_OUT}") from error


def _by_pixels(values: np.ndarray, lossy: bool) -> Marked:
    colours, alpha = _planes(values)
    if alpha is None or (alpha == alpha.flat[0]).all():
        return _by_colour(colours, lossy)
    visible = colours[alpha > alpha.max() / 2]
    if (visible == visible[0]).all():
        return _by_colour(alpha, lossy)
    try:
        by_colour = _by_colour(colours, lossy)
    except ValueError:  # a picture that is cut out
        return _by_colour(alpha, lossy)
    try:
        by_alpha = _by_colour(alpha, lossy)
    except ValueError:
        return by_colour
    if (by_alpha.shown != by_colour.shown).any():
        raise ValueError(
            "its colours and its alpha channel show different objects; save it without alpha, as black and white"
        )
    return by_colour


def _by_colour(colours: np.ndarray, lossy: bool) -> Marked:
    if colours.ndim == 2:
        return _by_gray(colours, lossy)
    packed, brightness = _packed(colours), colours.max(axis=2)
    found = np.unique(packed)
    if len(found) == 2:
        dark, bright = sorted(int(brightness[packed == colour][0]) for colour in found)
        if dark != bright and (dark == 0 or _is_clear(dark, bright, 255)):
            return Marked(brightness == bright, np.zeros(brightness.shape, bool), f"#{packed[brightness == bright][0]:06x}")
    elif brightness.max() >= 255 * _BRIGHT and np.ptp(colours, axis=2).max() <= _GRAY:
        return _by_gray(brightness, lossy, labels=False)
    raise ValueError(
        f"a coloured mask, {_listed(colours)}, that is not one colour on black; save it as a grayscale or palette image, "
        f"one value a class, and {_WAY_OUT}"
    )


def _by_gray(values: np.ndarray, lossy: bool, labels: bool = True) -> Marked:
    known = np.zeros(values.shape, bool)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if np.issubdtype(values.dtype, np.floating):
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ValueError(f"values from {low} to {high}; {_WAY_OUT}")
        if 0 <= low and high <= 1:
            if high <= 0.5:
                raise ValueError(f"no pixel above 0.5 (values from {low:.3g} to {high:.3g}), so no object")
            return Marked(values > 0.5, known)
    elif not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"pixel values of type {values.dtype}; save it as an 8- or 16-bit grayscale image")
    found = _histogram(values)[0]
    full, low, high = _full(values), found[0], found[-1]
    if lossy and high - low < full * _BRIGHT:
        raise ValueError(f"values from {low} to {high}, which JPEG blurs, tell no object; save the mask as PNG")
    if len(found) == 1 and high in (1, full):
        return Marked(~known, known)
    if len(found) == 2:
        if 0 in found or (low, high) == (-1, 1):
            shown = high or low
            return Marked(values == shown, known, "" if shown in (1, full) else f"{shown}")
        if _is_clear(low, high, full) and (lossy or not labels or high != UNKNOWN):
            return Marked(values == high, known)
    if [*found] == [0, 1, UNKNOWN] and (values == UNKNOWN).sum() <= 10 * (values == 1).sum():
        return _labels(values)
    if len(found) > 2 and low >= 0 and _is_soft(values, low, high, full, lossy):
        return Marked(values > (float(low) + float(high)) / 2, known)
    if len(found) == 1 and high == 0:
        raise ValueError(f"no pixel of an object, only {_listed(values)}; mend the mask, or leave the image out")
    raise ValueError(f"the values are {_listed(values)}; {_WAY_OUT}")


def _labels(values: np.ndarray) -> Marked:
    return Marked(values == 1, values == UNKNOWN)


def _full(values: np.ndarray) -> int:
    """The brightest that these values may be."""
    return 255 if values.max() <= 255 else 2**16 - 1


def _is_clear(dark: int | float, bright: int | float, full: int) -> bool:
    return 0 <= dark <= full * _BLACK and bright >= full * _BRIGHT


def _is_soft(values: np.ndarray, low: int | float, high: int | float, full: int, lossy: bool) -> bool:
    span = float(high) - float(low)
    if span < full * _BRIGHT:
        return False
    place = (values.astype(np.float32) - low) / span
    between, top = (place > _BLACK) & (place < 1 - _BLACK), place >= 1 - _BLACK
    levels = max(len(np.unique(values[between])), len(np.unique(values[top])))
    inner = values[1:, 1:]
    flat = between[1:, 1:] & (inner == values[1:, :-1]) & (inner == values[:-1, 1:])
    return bool(
        (lossy or levels >= _MIN_LEVELS)
        and between.mean() <= _MAX_BETWEEN
        and flat.sum() <= _MAX_FLAT * between.sum()
        and (place > 3 / 4).sum() >= _MIN_AGREEMENT * (place > 1 / 4).sum()
    )


def _packed(colours: np.ndarray) -> np.ndarray:
    if colours.dtype != np.uint8:
        raise ValueError(f"a coloured mask of type {colours.dtype}; save it with 8 bits, or as a grayscale image")
    red, green, blue = (colours[..., i].astype(np.uint32) for i in range(3))
    return red << 16 | green << 8 | blue


def _histogram(values: np.ndarray) -> tuple[Sequence[int | float], Sequence[int]]:
    """The values that occur, ascending, and how often."""
    values = values.astype(np.uint8) if values.dtype == bool else values
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        found = np.flatnonzero(counts)
        return found.tolist(), counts[found].tolist()
    found, counts = np.unique(values, return_counts=True)
    return found.tolist(), counts.tolist()


def _listed(values: np.ndarray, colours: Mapping[int, str] | None = None) -> str:
    """The values or colours that occur, with their counts: ``0 (5892 pixels), 245 (1020)``."""
    found, counts = _histogram(_packed(values) if values.ndim == 3 else values)
    if values.ndim == 3:
        names = [f"#{colour:06x}" for colour in found]
    else:
        names = [f"{value:.6g}" + (f" {colours[int(value)]}" if colours else "") for value in found]
    parts = [f"{name} ({count}{'' if i else ' pixels'})" for i, (name, count) in enumerate(zip(names, counts, strict=True))]
    more = len(parts) - _MAX_LISTED
    return ", ".join(parts[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
