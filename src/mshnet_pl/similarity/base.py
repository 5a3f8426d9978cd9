"""What a similarity promises: support features are encoded once, then any number of queries is compared with them."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.similarity.masks import ObjectMask


class AbstractSimilarity(nn.Module, ABC):
    """One similarity on one block, for all its layers and all shots.

    Subclasses are built with ``channels``, the width d of the block's maps, and say how the symmetric merging block
    treats their maps.
    """

    wide: ClassVar[bool]
    """Block-Conv and Shot-Conv twice the base width."""
    atrous: ClassVar[bool]
    """Shot-Conv with parallel dilated convolutions instead of one plain convolution."""

    @abstractmethod
    def encode(
        self, support: Float[Tensor, "batch shots layers channels height width"], objects: ObjectMask
    ) -> tuple[Tensor, ...]:
        """What ``compare`` needs to know of the supports: (B, K, L, d, h, w) features and their selected pixels."""

    @abstractmethod
    def compare(
        self, query: Float[Tensor, "batch layers channels height width"], code: tuple[Tensor, ...]
    ) -> Float[Tensor, "batch shots layers height width"]:
        """(B, L, d, h, w) query features and an encoded support to one similarity map per shot and layer."""
