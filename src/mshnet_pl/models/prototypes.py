"""Means of features over masks: the prototypes of several methods."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from mshnet_pl.models.layers import resize

_EPS = 1e-5
_AREA_EPS = 5e-4


def pooled(
    features: Float[Tensor, "n channels h w"], masks: Float[Tensor, "n regions height width"], aligned: bool = False
) -> Float[Tensor, "n regions channels"]:
    """Means over masks of features that are upsampled bilinearly to the masks' size; zero for an empty mask.

    The upsampled features are never built: masks are taken to the features' grid with the transposed interpolation.

    Args:
        features: of images.
        masks: 1 where a region is, 0 elsewhere.
        aligned: align corners.
    """
    sizes = zip(masks.shape[2:], features.shape[2:], strict=True)
    rows, columns = (_upsampling(masks, fine, coarse, aligned) for fine, coarse in sizes)
    weights = rows.T @ masks @ columns  # (N, R, h, w)
    total = weights.flatten(2).to(features.dtype) @ features.flatten(2).transpose(1, 2)
    return total / (masks.sum((2, 3)).to(features.dtype) + _EPS)[:, :, None]


def _upsampling(like: Tensor, fine: int, coarse: int, aligned: bool) -> Float[Tensor, "fine coarse"]:
    """The matrix of the bilinear interpolation along one axis."""
    unit = torch.eye(coarse, dtype=like.dtype, device=like.device)[None]
    return interpolate(unit, fine, mode="linear", align_corners=aligned)[0].T


def masked_mean(
    features: Float[Tensor, "n channels h w"], masks: Float[Tensor, "n height width"]
) -> Float[Tensor, "n channels"]:
    """Means of features, weighted by masks that are resized bilinearly to them; zero for an empty mask."""
    soft = resize(masks[:, None], features.shape[2:]).to(features.dtype)
    return (features * soft).sum((2, 3)) / (soft.sum((2, 3)) + _AREA_EPS)
