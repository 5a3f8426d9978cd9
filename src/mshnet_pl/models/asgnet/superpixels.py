"""ASGNet's superpixels of a support's object: where they start, and their clustering, without parameters or gradient."""

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from scipy.ndimage import distance_transform_edt
from torch import Tensor

_COMPACTNESS = 100.0
"""Squared distance in cells that weighs as much as a squared distance of 1 between features."""


def place_seeds(
    mask: Shaped[np.ndarray, "height width"], grid: tuple[int, int], area: int = 100, most: int = 5
) -> Int64[np.ndarray, "n 2"]:
    """Positions (row, column) on ``grid`` that lie deep in the object and far from each other; none for fewer than two.

    The mask is resized to the nearest pixel above and left. One seed for every ``area`` cells of the object, each where the
    distance to the background and to earlier seeds is largest; what is outside the object's bounding box does not count
    as background.

    Args:
        mask: 1 on the object.
        grid: height and width.
        area: cells for a seed.
        most: seeds of a mask.
    """
    rows, columns = (np.arange(n) * size // n for n, size in zip(grid, mask.shape, strict=True))
    small = mask[np.ix_(rows, columns)] == 1
    count = min(round(small.sum() / area), most)
    if count < 2:
        return np.empty((0, 2), dtype=np.int64)
    places = np.argwhere(small)
    corner = places.min(0)
    free = small[tuple(slice(low, high + 1) for low, high in zip(corner, places.max(0), strict=True))].copy()
    seeds = []
    for _ in range(count):
        seed = np.unravel_index(distance_transform_edt(free).argmax(), free.shape)
        free[seed] = False
        seeds.append(np.array(seed) + corner)
    return np.array(seeds, dtype=np.int64)


def clustered(
    features: Float[Tensor, "channels h w"], inside: Shaped[Tensor, "h w"], seeds: Int64[Tensor, "n 2"], steps: int
) -> Float[Tensor, "n channels"]:
    """Centres of soft clusters of the object's pixels, which grow from the seeds.

    Args:
        features: of a support.
        inside: bool, its object.
        seeds: (row, column).
        steps: of the iteration.
    """
    channels = len(features)
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in inside.shape), indexing="ij")).to(features)
    everything = torch.cat([features, places]).flatten(1).T  # (h w, channels + 2)
    pixels, centres = everything[inside.flatten()], everything[seeds[:, 0] * inside.shape[1] + seeds[:, 1]]
    for _ in range(steps):
        looks, distances = (
            (pixels[:, None, part] - centres[:, part]).square().sum(2) for part in (slice(channels), slice(channels, None))
        )  # (pixels, n)
        centres = (-(looks + distances / _COMPACTNESS).sqrt()).softmax(0).T @ pixels
    return centres[:, :channels]
