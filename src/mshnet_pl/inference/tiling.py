"""Large images as overlapping squares."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from numbers import Integral
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mshnet_pl.errors import ConfigError
from mshnet_pl.inference.labels import margins

T = TypeVar("T")
Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels."""


def check_tile(tile: int | None) -> None:
    """Refuse what is no tile.

    Raises:
        ConfigError: no whole number of at least 32 pixels.
    """
    if tile is not None and not (isinstance(tile, Integral) and tile >= 32):
        raise ConfigError(f"tile={tile}: give at least 32 pixels")


def boxes(size: tuple[int, int], tile: int | None) -> list[Box]:
    """Squares of ``tile`` pixels, or an image's shorter side, that cover it with at least half overlap.

    Args:
        size: (width, height) of the image.
        tile: None for one box, the whole image.
    """
    width, height = size
    wide, high = min(tile or width, width), min(tile or height, height)
    return [
        (x, y, x + wide, y + high)
        for y in sorted({*range(0, height - high, max(high // 2, 1)), height - high})
        for x in sorted({*range(0, width - wide, max(wide // 2, 1)), width - wide})
    ]


def blend(
    logits: Sequence[Float[Tensor, "way 2 h w"]], cut: Sequence[Box], size: tuple[int, int]
) -> Float[Tensor, "way height width"]:
    """Margins of the whole image: the mean of its boxes' upsampled ones, weighted by a sine window.

    Args:
        logits: of every box.
        cut: the boxes.
        size: (height, width) of the image.
    """
    if len(cut) == 1:
        return margins(logits[0], size)
    whole, weights = logits[0].new_zeros(len(logits[0]), *size), logits[0].new_zeros(size)
    for (left, upper, right, lower), of_box in zip(cut, logits, strict=True):
        high, wide = lower - upper, right - left
        window = (_window(high)[:, None] * _window(wide)).to(whole.device)
        whole[:, upper:lower, left:right] += window * margins(of_box, (high, wide))
        weights[upper:lower, left:right] += window
    return whole.div_(weights)


def _window(length: int) -> Float[Tensor, "length"]:
    return torch.sin(math.pi * (torch.arange(length).float() + 0.5) / length)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items, the last one perhaps shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
