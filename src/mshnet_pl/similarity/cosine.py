"""Cosine similarity to the selected support pixels (CS, eq. 5)."""

import torch
from jaxtyping import Float
from torch import Tensor

from mshnet_pl.similarity.base import AbstractSimilarity
from mshnet_pl.similarity.masking import ObjectMask

_EPS = 1e-5
_MOST_ELEMENTS = 2**24
"""Cosines held at a time: 64 MiB in float32."""


class CosineSimilarity(AbstractSimilarity):
    """Mean over the selected support pixels of ``ReLU(cosine)``, for every query pixel.

    Norms have 1e-5 added, so a zero feature (an empty mask's) has similarity 0. Time grows with the number of selected
    pixels; the cosines themselves are never held for more than a bounded number of pixels at a time.

    Args:
        channels: width d of the block's maps (unused: the similarity has no parameters).
    """

    wide = True
    atrous = False

    def __init__(self, channels: int) -> None:
        super().__init__()

    def encode(
        self, support: Float[Tensor, "batch shots layers channels height width"], objects: ObjectMask
    ) -> tuple[Tensor, ...]:
        """Gather each shot's selected pixels, padded to the largest number m in the batch.

        The shapes of an exported graph cannot follow from a mask's values: it keeps all pixels, the others as zeros.

        Returns:
            (B, L, K, m, d) unit vectors, zero where padded, and (B, K) numbers of selected pixels, at least 1.
        """
        layers, channels = support.shape[2:4]
        pixels, weight = support.flatten(4), objects.weight.flatten(2)  # (B, K, L, d, hw), (B, K, hw)
        if not torch.compiler.is_compiling():
            most = max(int(objects.size.max()), 1)
            weight, index = weight.topk(most, dim=2, sorted=False)  # (B, K, m): all selected ones, as their weight is > 0
            pixels = pixels.gather(4, index[:, :, None, None].expand(-1, -1, layers, channels, -1))
        pixels = _unit(pixels * weight[:, :, None, None].to(pixels.dtype), dim=3)  # (B, K, L, d, m)
        return pixels.permute(0, 2, 1, 4, 3).contiguous(), objects.size.clamp(min=1)

    def compare(
        self, query: Float[Tensor, "batch layers channels height width"], code: tuple[Tensor, ...]
    ) -> Float[Tensor, "batch shots layers height width"]:
        """See the class."""
        pixels, count = code
        height, width = query.shape[3:]
        total = _total_cosines(_unit(query, dim=2).flatten(3), pixels)
        mean = total / count[:, None, :, None].to(total.dtype)
        return mean.transpose(1, 2).unflatten(3, (height, width))  # (B, K, L, h, w)


def _total_cosines(query: Tensor, pixels: Tensor) -> Tensor:
    """Sums (B, L, K, hw) of positive cosines of (B, L, d, hw) query pixels with each shot's, (B, L, K, m, d)."""
    if torch.compiler.is_compiling():  # a graph cannot loop over shots of any number
        return (pixels @ query[:, :, None]).relu().sum(3)
    batch, layers, _, area = query.shape
    total = query.new_zeros(batch, layers, pixels.shape[2], area)
    step = max(_MOST_ELEMENTS // (batch * layers * area), 1)
    for shot in range(pixels.shape[2]):
        for part in pixels[:, :, shot].split(step, dim=2):
            total[:, :, shot] += (part @ query).relu_().sum(2)
    return total


def _unit(x: Tensor, dim: int) -> Tensor:
    return x / (torch.linalg.vector_norm(x, dim=dim, keepdim=True) + _EPS)
