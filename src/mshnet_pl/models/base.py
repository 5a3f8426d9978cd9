"""What a few-shot segmentation method promises."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction

SupportCode = Mapping[str, tuple[Tensor, ...]]
"""All that a method keeps of the supports, by name; the first axis of every tensor is the batch's."""


class AbstractMethod(nn.Module, ABC):
    """Segments queries with the help of K masked supports. It never sees a query's mask.

    A subclass works on its backbone's features: ``encode`` for supports, once, and ``decode`` for any number of queries.
    """

    backbone: AbstractBackbone

    @abstractmethod
    def encode(
        self,
        support: tuple[Float[Tensor, "batch shots _ _ _ _"], ...],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> SupportCode:
        """(B, K, L, d, h, w) support features of every block and (B, K, H, W) masks to what ``decode`` needs of them."""

    @abstractmethod
    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """(B, L, d, h, w) query features of every block to logits; a code of batch 1 serves queries of any batch."""

    def forward(
        self,
        query: Float[Tensor, "batch 3 height width"],
        support: Float[Tensor, "batch shots 3 height width"],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> Prediction:
        """Normalised images and 0/1 masks to logits; any number of shots."""
        of_query, of_support = self.features(query, support)
        return self.decode(of_query, self.encode(of_support, support_mask))

    def features(
        self, query: Float[Tensor, "batch 3 height width"], support: Float[Tensor, "batch shots 3 height width"]
    ) -> tuple[Features, tuple[Float[Tensor, "batch shots _ _ _ _"], ...]]:
        """Query and support features of every block, from one pass of the backbone."""
        batch, shots = support.shape[:2]
        features = self.backbone(torch.cat([query, support.flatten(0, 1)]))
        return tuple(f[:batch] for f in features), tuple(f[batch:].unflatten(0, (batch, shots)) for f in features)

    def learnable_parameters(self) -> int:
        """Number of parameters that training changes: the backbone's too where it is trainable."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
