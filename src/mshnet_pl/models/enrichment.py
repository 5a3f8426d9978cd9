"""Feature enrichment over a pyramid of scales, shared by PFENet, which brought it, and ASGNet; layers that CyCTR has too."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.layers import resize

_PUBLISHED_GRID = 60


class EnrichingMethod(AbstractMethod):
    """Joins query and support at several scales and feeds each scale to the next coarser one.

    Args:
        width: channels of the query's and of the support's features.
        bins: sides of the pyramid's grids, finest first, where block 2's is 60 x 60, and scaled with it; a number up to 1
            is a share of the grid.
        scale: of the grid of the logits, times block 2's.

    Raises:
        ValueError: a width or a scale below 1, bins that are none or not positive.
    """

    def __init__(self, width: int, bins: Sequence[int | float], scale: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width}: give a positive number, 256 for the paper's network")
        if not bins or min(bins) <= 0:
            raise ValueError(f"bins={[*bins]}: give one or more positive numbers, [60,30,15,8] in the paper")
        if scale < 1:
            raise ValueError(f"scale={scale}: give 1 or 2")
        self.bins, self.scale = tuple(bins), scale
        self.join = nn.ModuleList([conv_relu(2 * width + 1, width, 1) for _ in bins])
        self.pass_on = nn.ModuleList([conv_relu(2 * width, width, 1) for _ in bins[1:]])
        self.enrich = nn.ModuleList([two_convs(width) for _ in bins])
        self.inner_heads = nn.ModuleList([to_logits(width) for _ in bins])
        self.gather = conv_relu(len(bins) * width, width, 1)
        self.refine = two_convs(width)
        self.head = to_logits(width)

    def enriched(self, joined: Float[Tensor, "batch channels h w"], prior: Float[Tensor, "batch 1 h w"]) -> Prediction:
        """Query's and support's features side by side to logits, in training with those of every scale, coarsest first."""
        grid = joined.shape[2:]
        scales: list[Tensor] = []
        inner: dict[str, Tensor] = {}
        for i, side in enumerate(self.bins):
            size = [_side(side, n) for n in grid]
            y = self.join[i](torch.cat([adaptive_avg_pool2d(joined, (size[0], size[1])), resize(prior, size)], dim=1))
            if scales:
                y = y + self.pass_on[i - 1](torch.cat([y, resize(scales[-1], size)], dim=1))
            y = y + self.enrich[i](y)
            if self.training:
                inner[f"scale{side}"] = self.inner_heads[i](y)
            scales.append(resize(y, grid))
        y = self.gather(torch.cat(scales, dim=1))
        logits = self.head(y + self.refine(y))
        if self.scale > 1:
            logits = resize(logits, [self.scale * side for side in grid])
        return Prediction(logits, dict(reversed(inner.items())))


def _side(side: int | float, n: int) -> int:
    """Of a pyramid's grid where block 2's is ``n`` long."""
    return max(int(n * side) if side <= 1 else int((2 * side * n + _PUBLISHED_GRID) // (2 * _PUBLISHED_GRID)), 1)


def conv_relu(in_size: int, out_size: int, kernel: int) -> nn.Sequential:
    """A convolution without bias that keeps the size, and ReLU."""
    return nn.Sequential(nn.Conv2d(in_size, out_size, kernel, padding=kernel // 2, bias=False), nn.ReLU(inplace=True))


def two_convs(width: int) -> nn.Sequential:
    """The branch of a residual."""
    return nn.Sequential(conv_relu(width, width, 3), conv_relu(width, width, 3))


def to_logits(width: int) -> nn.Sequential:
    """A head for background and foreground."""
    return nn.Sequential(conv_relu(width, width, 3), nn.Dropout2d(0.1), nn.Conv2d(width, 2, 1))
