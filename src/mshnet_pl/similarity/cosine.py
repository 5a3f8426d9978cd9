"""Cosine similarity to the selected support pixels (CS, eq. 5)."""

import torch
from torch import Tensor

from mshnet_pl.similarity.base import AbstractSimilarity, QueryMaps, ShotMaps, SupportMaps
from mshnet_pl.similarity.masks import ObjectMask
from mshnet_pl.similarity.pixels import positive_cosines, unit_pixels


class CosineSimilarity(AbstractSimilarity):
    """Mean over the selected support pixels of ``ReLU(cosine)``, for every query pixel.

    Norms have 1e-5 added, so a zero feature (an empty mask's) has similarity 0. Time grows with the number of selected
    pixels; the cosines themselves are never held for more than a bounded number of pixels at a time.

    Args:
        channels: width d of the block's maps (unused: the similarity has no parameters).
        centred: take the image's mean feature from every feature first, the query's from the query's and each support's
            from its own. Not the paper's: what all of an image's pixels share says nothing about which of them are alike,
            and before a block's last ReLU it is most of a feature (experiments/improved.md).
    """

    wide = True
    atrous = False

    def __init__(self, channels: int, centred: bool = False) -> None:
        super().__init__()
        self._centred = centred

    def encode(self, support: SupportMaps, objects: ObjectMask) -> tuple[Tensor, ...]:
        """Each shot's selected pixels.

        Returns:
            (B, L, K, m, d) unit vectors, zero where a shot has fewer than m, and (B, K) their numbers, at least 1.
        """
        return unit_pixels(self._centre(support), objects), objects.size.clamp(min=1)

    def compare(self, query: QueryMaps, code: tuple[Tensor, ...]) -> ShotMaps:
        """See the class."""
        pixels, count = code
        total = positive_cosines(self._centre(query), pixels)  # (B, L, K, h, w)
        mean = total / count[:, None, :, None, None]
        return mean.transpose(1, 2)  # (B, K, L, h, w)

    def _centre(self, features: Tensor) -> Tensor:
        """(..., h, w) features as they are, or if ``centred`` less their mean over the image."""
        if not self._centred:
            return features
        mean = features.mean((-2, -1), keepdim=True, dtype=torch.promote_types(features.dtype, torch.float32))
        return (features - mean).to(features.dtype)
