"""Marks in place of masks in tests: what someone would draw of an object whose mask is known."""

import math

import numpy as np
from jaxtyping import Bool, UInt8
from scipy.ndimage import find_objects, label

from mshnet_pl.data.io.marks import Marks
from mshnet_pl.options import SupportKind

_MARKED = 4  # an independent stream of a seed; those up to 3 are the sampling's and the augmentation's
_MIN_PART = 0.001
"""Share of the image below which a connected part gets no box, unless it is the only one."""
_TURN = 0.15
"""Standard deviation of a stroke's turn a pixel, in radians."""


def weakened(
    mask: Bool[np.ndarray, "height width"], kind: SupportKind, number: int, shot: int, seed: int = 0
) -> UInt8[np.ndarray, "height width"]:
    """What marks tell of every pixel, see ``data.io.marks``; the same in every process.

    Boxes are those of all connected parts, or of the largest one. A stroke starts anywhere in the largest part and is as
    long as the square root of its area; it turns slowly, and at random where it would leave the part. A point is any of the
    mask's pixels.

    Args:
        mask: of the object.
        kind: what is marked.
        number: of the episode.
        shot: of the support in it.
        seed: of the test.
    """
    if kind is SupportKind.mask or not mask.any():
        return mask.astype(np.uint8)
    rng = np.random.default_rng((number, _MARKED, shot, seed))
    marks = Marks(mask.shape[::-1])
    parts, _ = label(mask)
    sizes = np.bincount(parts[mask])[1:]
    if kind is SupportKind.point:
        marks.scribble([_any(mask, rng)])
    elif kind is SupportKind.scribble:
        marks.scribble(_walk(parts == 1 + sizes.argmax(), rng))
    else:
        least = sizes.max() if kind is SupportKind.largest_box else min(_MIN_PART * mask.size, sizes.max())
        for size, (rows, columns) in zip(sizes, find_objects(parts), strict=True):
            if size >= least:
                marks.box((columns.start, rows.start, columns.stop - 1, rows.stop - 1))
    return marks.told()


def _any(mask: Bool[np.ndarray, "height width"], rng: np.random.Generator) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    place = rng.integers(len(rows))
    return float(columns[place]), float(rows[place])


def _walk(part: Bool[np.ndarray, "height width"], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Places a pixel apart, all in ``part``."""
    (x, y), angle = _any(part, rng), rng.uniform(0, 2 * math.pi)
    way = [(x, y)]
    for _ in range(math.isqrt(int(part.sum()))):
        for turn in (rng.normal(0, _TURN), *rng.uniform(-math.pi, math.pi, 8)):
            u, v = x + math.cos(angle + turn), y + math.sin(angle + turn)
            if 0 <= round(v) < part.shape[0] and 0 <= round(u) < part.shape[1] and part[round(v), round(u)]:
                x, y, angle = u, v, angle + turn
                way.append((x, y))
                break
    return way
