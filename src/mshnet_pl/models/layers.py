"""Layers that several networks share."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mshnet_pl.backbones.base import Features
from mshnet_pl.models.convolutions import convolve_projected, convolve_upsampled
from mshnet_pl.similarity.pixels import unit
from mshnet_pl.utils.relu import relu


def resize(x: Float[Tensor, "n c h w"], size: Sequence[int]) -> Float[Tensor, "n c h2 w2"]:
    """Bilinear interpolation with aligned corners, the only kind the networks use."""
    return interpolate(x, (size[0], size[1]), mode="bilinear", align_corners=True)


def resize_if_needed(x: Float[Tensor, "n c h w"], size: Sequence[int]) -> Float[Tensor, "n c h2 w2"]:
    """``resize``, or ``x`` itself where it has that size."""
    return x if x.shape[2:] == torch.Size(size) else resize(x, size)


def middle_maps(
    fine: Float[Tensor, "n _ _ _ _"], coarse: Float[Tensor, "n _ _ _ _"], coarse_first: bool = False
) -> Float[Tensor, "n c h w"]:
    """The last maps of blocks 2 and 3 after their ReLU, side by side on block 2's grid."""
    of_fine, of_coarse = fine[:, -1].relu(), coarse[:, -1].relu()
    if of_coarse.shape[2:] != of_fine.shape[2:]:
        of_coarse = resize(of_coarse, of_fine.shape[2:])
    return torch.cat([of_coarse, of_fine] if coarse_first else [of_fine, of_coarse], dim=1)


def directions(features: Features, blocks: int = 3) -> Float[Tensor, "n d h w"]:
    """Unit vectors of all maps of the deepest blocks, side by side: products are means of the blocks' mean cosines.

    Channels of a pixel lie side by side, as they do in features, which makes it several times as quick on a CPU.
    """
    deepest = features[-blocks:]
    grid = deepest[0].shape[3:]
    parts = []
    for block in deepest:  # (N, L, d, h_b, w_b)
        x = resize(block.flatten(0, 1), grid).unflatten(0, block.shape[:2])
        weight = (len(deepest) * block.shape[1]) ** -0.5
        vectors = weight * unit(x.to(torch.promote_types(x.dtype, torch.float32)).permute(0, 3, 4, 1, 2))
        parts.append(vectors.flatten(3))  # (N, h, w, L d)
    return torch.cat(parts, dim=3).permute(0, 3, 1, 2)


class ReLU(nn.ReLU):
    """PyTorch's, by ``utils.relu``."""

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        return relu(input, self.inplace)


class UpsampleThen(nn.Sequential):
    """``UpsampleThen(*layers)(x, size)`` is ``Sequential(*layers)(resize(x, size))``.

    The first layer, a 3 x 3 convolution, is computed before the grid grows: ``convolve_upsampled``.
    """

    def forward(  # type: ignore[override]  # a size besides
        self, x: Float[Tensor, "n c h w"], size: Sequence[int]
    ) -> Float[Tensor, "n c2 h2 w2"]:
        """See the class."""
        convolution, *rest = self
        x = convolve_upsampled(convolution, x, size)
        for layer in rest:
            x = layer(x)
        return x


class JoinThen(nn.Sequential):
    """``JoinThen(*layers)(parts)`` is ``Sequential(*layers)`` of the concatenation of ``project(x)`` of every part.

    A part is a map and its projection, a 1 x 1 convolution, or None where the map is taken as it is. The first layer, a
    3 x 3 convolution, is computed together with the projections: ``convolve_projected``.
    """

    def forward(self, parts: Sequence[tuple[Float[Tensor, "n _ h w"], nn.Module | None]]) -> Float[Tensor, "n c h w"]:
        """See the class."""
        convolution, *rest = self
        x = convolve_projected(convolution, parts)
        for layer in rest:
            x = layer(x)
        return x


def count_votes(
    logits: Float[Tensor, "batch shots 2 h w"],
) -> tuple[Float[Tensor, "batch h w"], Float[Tensor, "batch 1 1"]]:
    """How many shots call a pixel foreground, and the most votes that a pixel of the image has, at least 1.

    A shot votes where its foreground's logit is the larger one. Of V votes where the image's most are M, a pixel is
    foreground if V / M is above one half (Min et al., ICCV 2021); what one half itself means is the caller's choice.
    """
    votes = (logits[:, :, 1] > logits[:, :, 0]).sum(1).to(logits.dtype)
    return votes, votes.amax((1, 2), keepdim=True).clamp(min=1)
