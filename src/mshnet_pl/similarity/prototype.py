"""Generative prototype similarity (GPS, eq. 3 and 4)."""

import torch
from torch import Tensor, nn

from mshnet_pl.similarity.base import AbstractSimilarity, QueryMaps, ShotMaps, SupportMaps
from mshnet_pl.similarity.masks import ObjectMask


class PrototypeSimilarity(AbstractSimilarity):
    """``sigmoid(W [x_q || x_p])`` with a learned, bias-free W shared by a block's layers and by all shots.

    The prototype x_p is the mean of the selected support pixels. W acts on query and prototype separately, so their
    concatenation is never built. An empty mask gives 0.5 everywhere.

    Args:
        channels: width d of the block's maps; W has 2 d entries.
    """

    wide = False
    atrous = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, channels))  # query half, prototype half
        nn.init.uniform_(self.weight, -((2 * channels) ** -0.5), (2 * channels) ** -0.5)  # as nn.Linear(2 d, 1)

    def encode(self, support: SupportMaps, objects: ObjectMask) -> tuple[Tensor, ...]:
        """Eq. 3: (B, K, L, d) prototypes, and (B, K) flags, 0 for an empty mask and 1 else."""
        weight = (objects.weight / objects.size.clamp(min=1)[:, :, None, None]).to(support.dtype)
        pixels = support.permute(0, 1, 2, 4, 5, 3).flatten(3, 4)  # (B, K, L, hw, d)
        prototypes = weight.flatten(2)[:, :, None, None] @ pixels  # (B, K, L, 1, d)
        return prototypes.squeeze(3), (objects.size > 0).to(support.dtype)

    def compare(self, query: QueryMaps, code: tuple[Tensor, ...]) -> ShotMaps:
        """Eq. 4: W [x_q || x_p] is the sum of the two halves' products."""
        prototypes, present = code
        of_query, of_prototype = self.weight  # (d) each
        # with a matrix of one column: a product with a vector is slow backwards in bf16
        from_query = (query.permute(0, 1, 3, 4, 2) @ of_query[:, None]).squeeze(4)  # (B, L, h, w)
        from_prototype = prototypes @ of_prototype  # (B, K, L)
        return torch.sigmoid(from_query[:, None] * present[:, :, None, None, None] + from_prototype[..., None, None])
