"""Supports looked at again from nearer: an object then has the sizes that it may have in queries."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from mshnet_pl.models.layers import resize

_LEAST, _MOST = 0.2, 0.9
"""Of the image's side: a smaller part would be a blur, a larger one shows what the image shows."""


class Part(NamedTuple):
    """Of an image, from the first pixel of a row and a column on."""

    top: int
    left: int
    height: int
    width: int

    def number(self, image: int) -> int:
        """Of this part of an image, unlike any other's and any image's."""
        return reduce(lambda number, place: number << 16 | place, self, image + 1)


def around(mask: Float[Tensor, "height width"], factor: float) -> Part | None:
    """The part with the image's proportions about the object's middle, ``factor`` times as large as the object's box.

    It lies within the image. None where it would be nearly all of it, or without an object.
    """
    rows, columns = (torch.nonzero(mask.amax(1 - axis) > 0).flatten().tolist() for axis in (0, 1))
    if not rows:
        return None
    boxes = (rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1)
    share = max((end - start) / side for (start, end), side in zip(boxes, mask.shape, strict=True))
    share = max(factor * share, _LEAST)
    if share > _MOST:
        return None
    sides = [round(share * side) for side in mask.shape]
    starts = [
        min(max((start + end - part) // 2, 0), side - part)
        for (start, end), part, side in zip(boxes, sides, mask.shape, strict=True)
    ]
    return Part(*starts, *sides)


def cut(images: Float[Tensor, "n c h w"], parts: Sequence[Part], smooth: bool = True) -> Float[Tensor, "n c h w"]:
    """A part of each image, as large as the image: bilinear, or of the nearest pixels, as for masks."""
    size = images.shape[2:]
    shown = [
        image[None, :, part.top : part.top + part.height, part.left : part.left + part.width]
        for image, part in zip(images, parts, strict=True)
    ]
    return torch.cat([resize(one, size) if smooth else interpolate(one, size, mode="nearest") for one in shown])
