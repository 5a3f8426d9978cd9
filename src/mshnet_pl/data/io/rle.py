"""Run-length encodings of masks, as COCO's annotations have them."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from pycocotools import mask as rle_tools

from mshnet_pl.data.io.images import check_size
from mshnet_pl.data.io.outlines import checked

_MAX_SHIFT = 35
"""Bits of a run length."""


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is of a crowd; some tools write the number as text."""
    return annotation.get("iscrowd") not in (None, 0, "", "0", "false")


def encode(segmentation: Any, height: int, width: int) -> dict[str, Any]:  # noqa: ANN401 - parsed JSON
    """Compressed run-length encoding of polygons, of plain run lengths, or of what is one already.

    Args:
        segmentation: as in COCO's JSON: a list of polygons ``[x, y, x, y, ...]``, or a dict of ``size`` and ``counts``.
        height: of the image.
        width: of the image.

    Raises:
        ValueError: it is none of these, does not fit the image, or has points that are no place in it.
    """
    if type(height) is not int or type(width) is not int:
        raise ValueError(f"an image of height {height} and width {width}; give whole numbers")
    check_size(width, height)
    if isinstance(segmentation, list):
        if not segmentation or any(not isinstance(p, list) or len(p) < 6 or len(p) % 2 for p in segmentation):
            raise ValueError("a polygon is a list of at least three points x, y, x, y, ...")
        polygons = [[*chain(*checked(zip(p[::2], p[1::2], strict=True), width, height))] for p in segmentation]
        return rle_tools.merge(rle_tools.frPyObjects(polygons, height, width))
    size, counts = segmentation["size"], segmentation["counts"]
    if list(size) != [height, width]:
        raise ValueError(f"encoded at height and width {size}, but the image has {[height, width]}")
    runs = counts if isinstance(counts, list) else _runs(counts)
    if wrong := [run for run in runs if type(run) is not int or run < 0]:
        raise ValueError(f"a run length of {wrong[0]!r}; give whole numbers from 0")
    if sum(runs) != height * width:
        raise ValueError(f"run lengths that add up to {sum(runs)} pixels, but the image has {height * width}")
    return rle_tools.frPyObjects({"size": [height, width], "counts": runs}, height, width)


def _runs(counts: object) -> list[int]:
    """The run lengths of a compressed encoding: five bits a letter, of differences from the last run but one."""
    if not isinstance(counts, str) or not counts or not all("0" <= letter <= "o" for letter in counts):
        raise ValueError("counts that are no compressed run-length encoding")
    runs: list[int] = []
    value = shift = 0
    for letter in counts:
        bits = ord(letter) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            if shift > _MAX_SHIFT:
                raise ValueError("counts that are no compressed run-length encoding")
            continue
        value -= (bits & 0x10) << (shift - 4)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("counts that are cut short")
    return runs
