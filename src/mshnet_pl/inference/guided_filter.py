"""The guided filter (He et al., TPAMI 2013): smooths a map along with the colours of an image, not across its edges."""

import torch
from jaxtyping import Float
from torch import Tensor

from mshnet_pl.inference.labels import margins
from mshnet_pl.models.layers import resize_if_needed

_LEAST_PROBABILITY = 1e-4
_PENALTY = 2e-3
"""Of the squared slopes (epsilon in the paper), for images with a variance of about 1: 1e-4 for colours from 0 to 1."""

_FITTED_SIDE = 257
"""Of the grid that the functions are fitted on where the image is larger by half: the longer side, about."""


def guided_logits(
    logits: Float[Tensor, "batch 2 h w"], image: Float[Tensor, "batch 3 height width"], radius: float
) -> Float[Tensor, "batch 2 height width"]:
    """Smooth the foreground's probability, bilinearly upsampled, along the colours of the normalised ``image``.

    Args:
        logits: background and foreground.
        image: the query.
        radius: of the filter's windows, as a share of the image's longer side.

    Returns:
        0 for the background, and the log-odds of the smoothed probability.
    """
    height, width = image.shape[2:]
    probability = margins(logits, (height, width))[:, None].sigmoid()
    smoothed = guided_filter(image, probability, round(radius * max(height, width)))
    return torch.cat([torch.zeros_like(smoothed), smoothed.logit(eps=_LEAST_PROBABILITY)], dim=1)


def guided_filter(
    image: Float[Tensor, "batch 3 height width"], x: Float[Tensor, "batch 1 height width"], radius: int
) -> Float[Tensor, "batch 1 height width"]:
    """In every window ``x`` is fitted by an affine function of the colour; a pixel gets the mean of its windows' functions.

    The paper's case of a colour image, a ridge regression in each window: ``a = (Sigma + epsilon U)^-1 (mean(I x) - mean(I)
    mean(x))`` and ``b = mean(x) - a mean(I)``, then ``mean(a) I + mean(b)``. A constant stays as it is, and so does an
    affine function of the colour but for the penalty; values may leave the range of ``x``. Where a side exceeds 385 pixels
    the functions are fitted on a coarser grid and interpolated (He and Sun, Fast Guided Filter, 2015).

    Args:
        image: normalised colours I; float32.
        x: what is smoothed; float32.
        radius: of the square windows, whose side is ``2 radius + 1``; the image's border cuts them.
    """
    with torch.autocast(image.device.type, enabled=False):  # differences of products want their digits
        return _filtered(image.float(), x.float(), radius)


def _filtered(image: Tensor, x: Tensor, radius: int) -> Tensor:
    stride = max(round(max(image.shape[2:]) / _FITTED_SIDE), 1)
    grid = [(side - 1) // stride + 1 for side in image.shape[2:]]
    functions = _functions(
        resize_if_needed(image, grid), resize_if_needed(x, grid), max(round(radius / stride), 1) if radius else 0
    )
    slopes, offset = resize_if_needed(functions, image.shape[2:]).split([3, 1], dim=1)
    return (slopes * image).sum(1, keepdim=True) + offset


def _functions(
    image: Float[Tensor, "batch 3 h w"], x: Float[Tensor, "batch 1 h w"], radius: int
) -> Float[Tensor, "batch 4 h w"]:
    """Every pixel's slopes and offset, the means over its windows."""
    first, second = torch.triu_indices(3, 3)
    moments = [image, x, image * x, image[:, first] * image[:, second]]
    mean, mean_x, mean_xi, mean_ii = _box(torch.cat(moments, dim=1), radius).split([3, 1, 3, 6], dim=1)
    covariance = mean_ii - mean[:, first] * mean[:, second]
    covariance[:, first == second] += _PENALTY
    slopes = _solution(covariance, mean_xi - mean * mean_x)
    offset = mean_x - (slopes * mean).sum(1, keepdim=True)
    return _box(torch.cat([slopes, offset], dim=1), radius)


def _solution(matrix: Float[Tensor, "batch 6 h w"], right: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h w"]:
    """Every pixel's solution of a positive definite system, given by its upper triangle: Cholesky without square roots."""
    a, b, c, d, e, f = matrix.unbind(1)
    p, q, r = right.unbind(1)
    ba, ca = b / a, c / a
    d, e, f = d - ba * b, e - ba * c, f - ca * c
    ed = e / d
    q, f = q - ba * p, f - ed * e
    z = (r - ca * p - ed * q) / f
    y = q / d - ed * z
    return torch.stack([p / a - ba * y - ca * z, y, z], dim=1)


def _box(x: Float[Tensor, "n c h w"], radius: int) -> Float[Tensor, "n c h w"]:
    """The mean over the part of each window that lies in the image, by products with banded matrices."""
    rows, columns = (_windows(side, radius).to(x) for side in x.shape[2:])
    return rows @ x @ columns.T


def _windows(side: int, radius: int) -> Float[Tensor, "side side"]:
    place = torch.arange(side)
    inside = ((place[:, None] - place).abs() <= radius).float()
    return inside / inside.sum(1, keepdim=True)
