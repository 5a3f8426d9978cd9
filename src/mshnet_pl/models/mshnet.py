"""MSHNet: multi-similarity based hyperrelation network (Shi et al., arXiv 2203.09550)."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.decoder import Decoder, Pyramid, head, resize
from mshnet_pl.models.smb import SymmetricMergingBlock
from mshnet_pl.similarity.base import AbstractSimilarity
from mshnet_pl.similarity.masking import object_masks

SimilarityMaps = dict[str, Float[Tensor, "_ _ _ _ _"]]
"""Similarity maps of one block, by the similarity's name."""


class MSHNet(AbstractMethod):
    """Similarities of every backbone layer, merged per block by an SMB and over blocks by a top-down pyramid.

    With ResNet-50 and both similarities it has 29,626,952 learnable parameters; nothing in it depends on the number of
    shots or on the image's size.

    Args:
        backbone: frozen; its blocks are block 2, 3 and 4, finest first.
        similarities: name to a factory that takes a block's channels.
        width: base width; 128 is the paper's, a smaller one gives a smaller network of the same shape.

    Raises:
        ValueError: no similarity, a backbone without exactly three blocks, or a width that is no multiple of 2.
    """

    def __init__(
        self,
        backbone: AbstractBackbone,
        similarities: Mapping[str, Callable[[int], AbstractSimilarity]],
        width: int = 128,
    ) -> None:
        super().__init__()
        if not similarities:
            raise ValueError("similarity=[]: MSHNet needs at least one of cosine, prototype")
        if len(backbone.blocks) != 3:
            raise ValueError(f"MSHNet needs a backbone of three blocks, {type(backbone).__name__} has {backbone.blocks}")
        if width < 2 or width % 2:
            raise ValueError(f"model.width={width}: give a positive even number, 128 for the paper's network")
        self.backbone = backbone
        built = {name: [make(block.channels) for block in backbone.blocks] for name, make in similarities.items()}
        self.similarities = nn.ModuleDict({name: nn.ModuleList(per_block) for name, per_block in built.items()})
        paths = {name: (per_block[0].wide, per_block[0].atrous) for name, per_block in built.items()}
        self.merging = nn.ModuleList([SymmetricMergingBlock(b.layers, paths, width) for b in backbone.blocks])
        self.pyramid = Pyramid(width)
        self.decoder = Decoder(width)
        self.inner_heads = nn.ModuleList([head(2 * width) for _ in backbone.blocks])
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        query: Float[Tensor, "batch 3 height width"],
        support: Float[Tensor, "batch shots 3 height width"],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> Prediction:
        """Logits (B, 2, 2h, 2w) on twice block 2's grid, in training mode with three intermediate ones."""
        return self.segment(self.similarity_maps(query, support, support_mask))

    def similarity_maps(
        self,
        query: Float[Tensor, "batch 3 height width"],
        support: Float[Tensor, "batch shots 3 height width"],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> list[SimilarityMaps]:
        """Every similarity's maps (B, K, L, h, w) by name, per block, finest first."""
        batch, shots = support.shape[:2]
        images = torch.cat([query, support.flatten(0, 1)])
        features = [block.split([batch, batch * shots]) for block in self.backbone(images)]
        objects = object_masks(support_mask, [(q.shape[3], q.shape[4]) for q, _ in features])
        maps: list[SimilarityMaps] = []
        for b, ((of_query, of_support), selected) in enumerate(zip(features, objects, strict=True)):
            of_support = of_support.unflatten(0, (batch, shots))  # (B, K, L, d, h, w)
            block = {name: self._similarity(name, b) for name in self.similarities}
            maps.append({name: s.compare(of_query, s.encode(of_support, selected)) for name, s in block.items()})
        return maps

    def _similarity(self, name: str, block: int) -> AbstractSimilarity:
        return self.similarities[name][block]  # type: ignore[index]  # a ModuleList of similarities

    def segment(self, maps: list[SimilarityMaps]) -> Prediction:
        """Merge the similarity maps of all blocks into logits."""
        block2, block3, block4 = (merge(block) for merge, block in zip(self.merging, maps, strict=True))
        block4 = resize(block4, block3.shape[2:])
        logits = self.decoder(self.pyramid(block2, block3, block4))
        if not self.training:
            return Prediction(logits)
        head2, head3, head4 = self.inner_heads
        return Prediction(logits, (head4(block4), head3(block3), head2(block2)))
