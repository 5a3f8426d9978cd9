"""From boxes, scribbles and points to masks: which pixels look like what is marked, in features and in colours."""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from mshnet_pl.backbones.base import Features
from mshnet_pl.data.io.marks import BACKGROUND, INSIDE, OBJECT, OPEN
from mshnet_pl.inference.guided_filter import guided_filter
from mshnet_pl.models.layers import directions, resize

_TEMPERATURE = 0.2
_STEPS = 5
_STEEPNESS = 2.0
_RADIUS = 0.09
_EDGE, _DEPTH = -0.5, 1.5
"""Log-odds of the object at a box's edge, and what they gain up to its middle."""
_NEAR, _REACH = -1.4, 1.0
"""Log-odds of the object beside a point or scribble, and the distance, a share of the side, at which they fell by 1/2."""
_BORDER = 2
"""Cells: until a first estimate is made, so wide an edge of the image stands for the background of points and scribbles."""
_LEAST = 1e-12


def complete(
    features: Features, images: Float[Tensor, "n 3 side side"], told: UInt8[Tensor, "n side side"]
) -> Bool[Tensor, "n side side"]:
    """The object's mask in each image, by expectation and maximisation over the cells of the features' grid.

    A cell's log-odds are a prior plus twice the log-ratio of the densities of its feature among the object's cells and among
    the others, kernel estimates within the image as in ``DensityRatio``; features are taken less their mean over the image,
    which tells its parts apart. The prior grows from a box's edge to its middle, and falls with the distance to points and
    scribbles. After five rounds the probabilities are smoothed along the colours by the guided filter. What is marked stays
    as it is marked. Constants were chosen on base classes of PASCAL-5i; scores: experiments/weak_supports.md.

    Args:
        features: of the images.
        images: normalised.
        told: what is told of every pixel, see ``data.io.marks``.

    Returns:
        Never empty where ``told`` is not background alone.
    """
    with torch.autocast(images.device.type, enabled=False):  # the exponential wants the cosines' digits
        maps = directions(features)
        return torch.stack([_complete(*one) for one in zip(maps, images, told, strict=True)])


def _complete(
    maps: Float[Tensor, "d h w"], image: Float[Tensor, "3 s s"], told: UInt8[Tensor, "s s"]
) -> Bool[Tensor, "s s"]:
    if not ((told == INSIDE) | (told == OPEN)).any():
        return told == OBJECT
    grid = maps.shape[1:]
    margins = resize(_log_odds(maps, told).unflatten(0, grid)[None, None], told.shape)
    known = (told != BACKGROUND).float()
    smooth = guided_filter(image[None], margins.sigmoid() * known, round(_RADIUS * max(told.shape)))[0, 0]
    mask = (smooth > 0.5) & (told != BACKGROUND) | (told == OBJECT)
    return mask if mask.any() else told == INSIDE


def _log_odds(maps: Float[Tensor, "d h w"], told: UInt8[Tensor, "s s"]) -> Float[Tensor, "cells"]:
    grid = (maps.shape[1], maps.shape[2])
    marked, inside, open_ = (
        adaptive_avg_pool2d((told == kind)[None].float(), grid).flatten() for kind in (OBJECT, INSIDE, OPEN)
    )
    x = maps.flatten(1).T  # (cells, d)
    x = normalize(x - x.mean(0), dim=1)
    kernels = (x @ x.T / _TEMPERATURE).exp().fill_diagonal_(0)  # a cell is no evidence of itself
    free = inside + open_
    prior = _EDGE + _DEPTH * _depth(told == INSIDE, grid)
    if open_.any():
        distance = _distance(marked, grid)
        prior = _NEAR - distance.square() / (2 * _REACH**2)
        rows, columns = (torch.arange(side, device=x.device) for side in grid)
        edge = [torch.minimum(place, len(place) - 1 - place) < _BORDER for place in (rows, columns)]
        likely, rest = marked, (edge[0][:, None] | edge[1]).flatten() * (1 - marked)
    else:
        likely = marked + inside * prior.sigmoid()
        rest = 1 - likely
    odds = prior
    for _ in range(_STEPS):
        densities = [
            (kernels @ weight / weight.sum().clamp(min=_LEAST)).clamp(min=_LEAST).log() for weight in (likely, rest)
        ]
        odds = prior + _STEEPNESS * (densities[0] - densities[1])
        likely = marked + free * odds.sigmoid()
        rest = 1 - likely
    return odds


def _depth(inside: Bool[Tensor, "s s"], grid: tuple[int, int]) -> Float[Tensor, "cells"]:
    """How deep a cell lies in its box, 0 at the edge to 1 in the middle of the largest one."""
    depth = torch.from_numpy(distance_transform_edt(np.pad(inside.cpu().numpy(), 1))[1:-1, 1:-1]).to(inside.device).float()
    return adaptive_avg_pool2d(depth[None] / depth.max().clamp(min=1), grid).flatten()


def _distance(marked: Float[Tensor, "cells"], grid: tuple[int, int]) -> Float[Tensor, "cells"]:
    """To the nearest cell that is marked, as a share of the grid's longer side."""
    places = torch.cartesian_prod(*(torch.arange(side, device=marked.device) / max(grid) for side in grid))
    there = places[marked > 0]
    return torch.cdist(places, there).amin(1) if len(there) else torch.ones_like(marked)
