"""How every cell of a picture relates to what is marked in it: densities of object and rest, distances, depth in a box."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from mshnet_pl.data.io.marks import BACKGROUND, INSIDE, OBJECT, OPEN

COUNT = 16
"""Of the relations."""
_TEMPERATURE, _COLOUR = 0.2, 0.4
"""Of the kernels of features; of that of normalised colours the standard deviation."""
_SHARED = 0.05
"""Temperature of the kernel between pictures, that of ``DensityRatio``."""
_EDGE, _DEPTH = -0.5, 1.5
"""Log-odds of the object at a box's edge to begin with, and what they gain up to its middle."""
_BORDER = 2
"""Cells: to begin with, so wide an edge of the image stands for the background of points and scribbles."""
_CELL, _SHARE = 1 / 30, 0.002
"""Added before logarithms: to a distance, and to the object's share of the picture."""
_LEAST, _LEAST_SHARED, _LARGEST = 1e-12, 1e-15, 12.0


class Weights(NamedTuple):
    """How much every cell counts for the object, and how much for the rest; (cells,) each."""

    object: Tensor
    rest: Tensor


class Appearance:
    """How alike the n cells of a picture are.

    Args:
        maps: directions of all blocks' features.
        deepest: how many of their last channels are the deepest block's.
        image: normalised.

    Attributes:
        grid: rows and columns of the cells.
        directions: features, (n, d).
        kernels: of features, of those of the deepest block, and of colours, (n, n) each.
    """

    def __init__(self, maps: Float[Tensor, "d h w"], deepest: int, image: Float[Tensor, "3 s s"]) -> None:
        self.grid = (maps.shape[1], maps.shape[2])
        self.directions = maps.flatten(1).T
        colours = adaptive_avg_pool2d(image, self.grid).flatten(1).T
        self.kernels = (
            _kernel(self.directions),
            _kernel(self.directions[:, -deepest:]),
            (-(torch.cdist(colours, colours) / _COLOUR).square() / 2).exp().fill_diagonal_(0),
        )


class Picture:
    """The n cells of one picture and its marks.

    Args:
        appearance: of the cells.
        told: what is told of every pixel, see ``data.io.marks``.

    Attributes:
        appearance: of the cells.
        marked: share of every cell that is marked as the object, (n,).
        free: share that may be either.
        begun: the first weights.
    """

    def __init__(self, appearance: Appearance, told: UInt8[Tensor, "s s"]) -> None:
        self.appearance, grid = appearance, appearance.grid
        background, self.marked, inside, open_ = (
            adaptive_avg_pool2d((told == kind)[None].float(), grid).flatten() for kind in (BACKGROUND, OBJECT, INSIDE, OPEN)
        )
        self.free = inside + open_
        depth = _depth(told == INSIDE, grid)
        relative = depth / depth.max().clamp(min=1 / len(told)) if inside.any() else depth
        near, extent = _distances(self.marked, grid)
        self._told = torch.stack(
            [self.marked, inside, open_, near, (near + _CELL).log(), (extent + _CELL).log(), 4 * depth, relative]
        )
        if open_.any():
            self.begun = Weights(self.marked, torch.maximum(_border(grid).to(background), background) * (1 - self.marked))
        else:
            likely = self.marked + inside * (_EDGE + _DEPTH * relative).sigmoid()
            self.begun = Weights(likely, 1 - likely)

    def estimated(self, odds: Float[Tensor, "n"]) -> Weights:
        """The weights by an estimate's log-odds."""
        likely = self.marked + self.free * odds.sigmoid()
        return Weights(likely, 1 - likely)

    def relations(self, weights: Weights, shared: Float[Tensor, "n"] | None = None) -> Float[Tensor, "16 h w"]:
        """Of every cell, none larger than 12 either way.

        Log-ratios of the densities of object and rest in features, in the deepest block's features and in colours; the first
        two of the object's densities against the picture's largest; the log-ratio in the other pictures; the object's share
        of the cell and, as a logarithm, of the picture; the shares that are marked, in a box or not told; distance to the
        marks, its logarithm and that of the marks' extent; depth in the box, absolute and relative.
        """
        logs = [_log_densities(kernel, weights, _LEAST) for kernel in self.appearance.kernels]
        ratios = [of_object - of_rest for of_object, of_rest in logs]
        against = [of_object - of_object.max() for of_object, _ in logs[:2]]
        others = torch.zeros_like(self.marked) if shared is None else shared
        share = (weights.object.mean() + _SHARE).log().expand_as(others)
        found = torch.stack([*ratios, *against, others, weights.object, share])
        return torch.cat([found, self._told]).clamp(-_LARGEST, _LARGEST).unflatten(1, self.appearance.grid)


def shared_ratios(pictures: list[Picture], weights: list[Weights]) -> list[Tensor | None]:
    """Of every picture's cells the log-ratio of the densities in all other pictures together; None of a single one."""
    if len(pictures) == 1:
        return [None]
    found: list[Tensor | None] = []
    for place, picture in enumerate(pictures):
        others = [other for other in range(len(pictures)) if other != place]
        cells = torch.cat([pictures[other].appearance.directions for other in others])
        kernel = (picture.appearance.directions @ cells.T).float().sub(1).div(_SHARED).exp()
        pooled = Weights(*(torch.cat([weights[other][part] for other in others]) for part in range(2)))
        of_object, of_rest = _log_densities(kernel, pooled, _LEAST_SHARED)
        found.append(of_object - of_rest)
    return found


def _log_densities(kernel: Float[Tensor, "n m"], weights: Weights, least: float) -> tuple[Tensor, Tensor]:
    of_object, of_rest = ((kernel.float() @ (w / w.sum().clamp(min=_LEAST))).clamp(min=least).log() for w in weights)
    return of_object, of_rest


def _kernel(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Of features less their mean over the picture, which tells its parts apart; a cell is no evidence of itself."""
    x = normalize(x - x.mean(0), dim=1)
    return (x @ x.T / _TEMPERATURE).exp().fill_diagonal_(0)


def _depth(inside: Bool[Tensor, "s s"], grid: tuple[int, int]) -> Float[Tensor, "n"]:
    """How far a cell lies from the edge of its box, as a share of the image's side."""
    depth = distance_transform_edt(np.pad(inside.cpu().numpy(), 1))[1:-1, 1:-1] / len(inside)
    return adaptive_avg_pool2d(torch.from_numpy(depth).to(inside.device).float()[None], grid).flatten()


def _distances(marked: Float[Tensor, "n"], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Of every cell to the nearest that is marked, and from corner to corner of these; shares of the longer side.

    1 and 0 where nothing is marked.
    """
    places = torch.cartesian_prod(*(torch.arange(side, device=marked.device).float() / max(grid) for side in grid))
    there = places[marked > 0]
    if not len(there):
        return torch.ones_like(marked), torch.zeros_like(marked)
    return torch.cdist(places, there).amin(1), (there.amax(0) - there.amin(0)).norm().expand_as(marked)


def _border(grid: tuple[int, int]) -> Float[Tensor, "n"]:
    rows, columns = (torch.arange(side) for side in grid)
    edge = [torch.minimum(place, len(place) - 1 - place) < _BORDER for place in (rows, columns)]
    return (edge[0][:, None] | edge[1]).flatten().float()
