"""PPNet's part prototypes: features of a region in five clusters."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from mshnet_pl.models.layers import resize

PARTS = 5
_ENOUGH = 10
"""Pixels of a mask from which on a coarse grid will do."""


def region(
    features: Float[Tensor, "channels h w"], mask: Float[Tensor, "height width"], factor: int, size: Sequence[int]
) -> Float[Tensor, "n channels"]:
    """Features of the pixels of a mask on ``factor`` times the features' grid, at ``size`` where these are few.

    Zero, once, where the mask is empty.
    """
    grid = [factor * side for side in features.shape[1:]]
    chosen = interpolate(mask[None, None], grid, mode="nearest")[0, 0] > 0
    if chosen.sum() > _ENOUGH:
        return resize(features[None], grid)[0][:, chosen].T
    places = (interpolate(mask[None, None], (size[0], size[1]), mode="nearest")[0, 0] > 0).nonzero()
    if not len(places):
        return features.new_zeros(1, len(features))
    last = places.new_tensor([side - 1 for side in size]).clamp(min=1)
    exact = features.to(torch.promote_types(features.dtype, torch.float32))
    positions = (2 * places.to(exact) / last - 1).flip(1)  # (n, 2) of x and y from -1 to 1: no map of that size is built
    return grid_sample(exact[None], positions[None, None], align_corners=True)[0, :, 0].T.to(features.dtype)


def nearest(distances: Float[Tensor, "n k"]) -> Int64[Tensor, "n"]:
    """The nearest centre of every pixel; the last one of several whose distances differ by roundings."""
    near = distances <= distances.amin(1, keepdim=True) * (1 + 32 * torch.finfo(distances.dtype).eps)
    return distances.shape[1] - 1 - near.flip(1).byte().argmax(1)


def cluster_means(
    pixels: Float[Tensor, "n channels"], starts: Int64[Tensor, "k"], iterations: int
) -> Float[Tensor, "k channels"]:
    """Lloyd's k-means from the pixels at ``starts``; with gradient to the members of the last step. Empty clusters are 0.

    In the published code roundings decide about a pixel in the middle between two centres, as interpolation makes them; of
    equal centres the first has all pixels.
    """
    fixed = pixels.detach()
    centres = fixed[starts]
    for step in range(iterations):
        distances = torch.cdist(fixed, centres, compute_mode="donot_use_mm_for_euclid_dist")
        first = (centres[:, None] == centres).all(2).byte().argmax(1)
        members = torch.nn.functional.one_hot(first[nearest(distances)], len(starts)).to(pixels.dtype)
        counts = members.sum(0)[:, None]
        if step < iterations - 1:
            centres = torch.where(counts > 0, members.T @ fixed / counts.clamp(min=1), centres)
    return members.T @ pixels / counts.clamp(min=1)
