"""From a support mask to the object's pixels on each block's grid (eq. 2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate


class ObjectMask(NamedTuple):
    """The selected pixels of an object on one block's grid."""

    weight: Tensor
    """(B, K, h, w) float: the soft mask at selected pixels, 0 elsewhere."""
    size: Tensor
    """(B, K) float: how many pixels are selected, 0 for an empty mask."""


def object_masks(
    mask: Float[Tensor, "batch shots height width"], grids: Sequence[tuple[int, int]]
) -> tuple[ObjectMask, ...]:
    """Select the object's pixels on every block's grid.

    The mask is resized bilinearly (``align_corners=True``) to twice the finest grid, to the finest grid, and from each
    grid to the next coarser one: a cascade, not each time from the original. On each grid the selected pixels are those
    whose soft value is at least the mean of the positive ones.

    Args:
        mask: (B, K, H, W), 1 on the object and 0 elsewhere.
        grids: height and width of every block's grid, finest first.

    Returns:
        One ``ObjectMask`` per grid.
    """
    height, width = grids[0]
    soft = _resize(mask, (2 * height, 2 * width))
    masks = []
    for grid in grids:
        soft = _resize(soft, grid)
        positive = soft > 0
        mean = soft.sum((2, 3)) / positive.sum((2, 3)).clamp(min=1)
        threshold = mean * (1 - 4 * torch.finfo(mask.dtype).eps)  # equal values must not lose to their rounded mean
        selected = positive & (soft >= threshold[:, :, None, None])
        masks.append(ObjectMask(soft * selected, selected.sum((2, 3)).to(soft.dtype)))
    return tuple(masks)


def _resize(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    return interpolate(mask, grid, mode="bilinear", align_corners=True)
