"""What a similarity promises: support features are encoded once, then any number of queries is compared with them."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.similarity.masks import ObjectMask

SupportMaps = Float[Tensor, "batch shots layers channels height width"]
QueryMaps = Float[Tensor, "batch layers channels height width"]
ShotMaps = Float[Tensor, "batch shots layers height width"]


class AbstractSimilarity(nn.Module, ABC):
    """One similarity on one block, for all its layers and all shots.

    Subclasses are built with ``channels``, the width d of the block's maps, and say how the symmetric merging block
    treats their maps. Letters of shapes are those of ``AbstractMethod``: B episodes, K shots, L maps of d channels, h x w
    pixels of the block's grid.
    """

    wide: ClassVar[bool]
    """Block-Conv and Shot-Conv twice the base width."""
    atrous: ClassVar[bool]
    """Shot-Conv with parallel dilated convolutions instead of one plain convolution."""

    @abstractmethod
    def encode(self, support: SupportMaps, objects: ObjectMask) -> tuple[Tensor, ...]:
        """Keep of the supports what ``compare`` needs.

        Args:
            support: (B, K, L, d, h, w) floating features of the block.
            objects: the object's selected pixels on its grid, (B, K, h, w), and their numbers, (B, K).

        Returns:
            Tensors whose first axis is B; which ones is the similarity's own affair.
        """

    @abstractmethod
    def compare(self, query: QueryMaps, code: tuple[Tensor, ...]) -> ShotMaps:
        """Compare queries with encoded supports.

        Args:
            query: (B, L, d, h, w) floating features of the block.
            code: what ``encode`` returned, of the same B or of B = 1.

        Returns:
            (B, K, L, h, w) floating similarity on the query's grid, a map for each shot and layer; higher is more alike.
        """
