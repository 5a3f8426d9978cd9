"""MSHNet: multi-similarity based hyperrelation network (Shi et al., arXiv 2203.09550)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import Masks, SimilarityMaps, SimilarityMethod, SupportCode, SupportFeatures, three_blocks
from mshnet_pl.models.layers import resize
from mshnet_pl.models.mshnet.decoder import Decoder, Pyramid, head
from mshnet_pl.models.mshnet.merging import SymmetricMergingBlock
from mshnet_pl.similarity.base import AbstractSimilarity
from mshnet_pl.similarity.masks import object_masks


class MSHNet(SimilarityMethod):
    """Similarities of every backbone layer, merged per block by an SMB and over blocks by a top-down pyramid.

    ==========================================================  ==========================================================
    in the paper                                                here
    ==========================================================  ==========================================================
    object features (eq. 2)                                     ``object_masks`` in similarity/masks.py
    prototype (eq. 3), generative prototype similarity (eq. 4)  ``PrototypeSimilarity`` in similarity/prototype.py
    cosine similarity (eq. 5)                                   ``CosineSimilarity`` in similarity/cosine.py
    symmetric merging block (section 4.3)                       ``SymmetricMergingBlock`` in models/mshnet/merging.py
    pyramid, decoder, heads (figure 2)                          ``Pyramid``, ``Decoder`` in models/mshnet/decoder.py
    loss (eq. 1)                                                ``episode_loss`` in training/losses.py
    ==========================================================  ==========================================================

    With ResNet-50 and both similarities it has 29,626,952 trainable parameters; nothing in it depends on the number of
    shots or on the image's size.

    The paper's mIoU, 1-shot / 5-shot: PASCAL-5i ResNet-50 65.5 / 69.9. Measured, fold 0 of a small part of PASCAL-5i after
    6,400 episodes, 1-shot (experiments/field): 52.0.

    Args:
        backbone: frozen; its blocks are block 2, 3 and 4, finest first.
        similarities: name to a factory that takes a block's channels.
        width: base width w; 128 is the paper's, a smaller one gives a smaller network of the same shape.
        blocks: which blocks' similarities are used.
        channel_gate: gate the merged channels of every block.
        atrous: Shot-Conv with dilated branches on the paths whose similarity asks for them.
        deep_supervision: intermediate logits of every block in training mode.

    Raises:
        ValueError: no similarity, a backbone without exactly three blocks, blocks other than 2, 3 and 4, or a width that is
            no multiple of 2.
    """

    def __init__(
        self,
        backbone: AbstractBackbone,
        similarities: Mapping[str, Callable[[int], AbstractSimilarity]] | None,
        width: int = 128,
        blocks: Sequence[int] = (2, 3, 4),
        channel_gate: bool = True,
        atrous: bool = True,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        if not similarities:
            raise ValueError("similarities=[]: MSHNet needs at least one of cosine, prototype")
        if width < 2 or width % 2:
            raise ValueError(f"width={width}: give a positive even number, 128 for the paper's network")
        if not blocks or len({*blocks}) < len(blocks) or not {*blocks} <= {2, 3, 4}:
            raise ValueError(f"blocks={[*blocks]}: give one or more of 2, 3, 4, each once")
        specs = {block: spec for block, spec in zip((2, 3, 4), three_blocks(self, backbone), strict=True) if block in blocks}
        built = {name: [make(spec.channels) for spec in specs.values()] for name, make in similarities.items()}
        paths = {name: (per_block[0].wide, per_block[0].atrous and atrous) for name, per_block in built.items()}
        self.backbone, self.blocks = backbone, tuple(specs)
        self.similarities = nn.ModuleDict({name: nn.ModuleList(per_block) for name, per_block in built.items()})
        self.merging = nn.ModuleList(
            [SymmetricMergingBlock(spec.layers, paths, width, channel_gate) for spec in specs.values()]
        )
        self.pyramid = Pyramid(width, self.blocks)
        self.decoder = Decoder(width)
        self.inner_heads = nn.ModuleList([head(2 * width) for _ in self.blocks if deep_supervision])
        self.to(memory_format=torch.channels_last)

    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """What every similarity needs of the supports, named ``SIMILARITY.BLOCK``."""
        objects = object_masks(support_mask, [(f.shape[4], f.shape[5]) for f in support])  # of blocks 2, 3, 4
        return {
            f"{name}.{block}": similarity.encode(support[block - 2], objects[block - 2])
            for block, name, similarity in self._by_block()
        }

    def compare(self, query: Features, code: SupportCode) -> SimilarityMaps:
        """Every similarity's maps (B, K, L, h, w), by block and name."""
        maps: SimilarityMaps = {block: {} for block in self.blocks}
        for block, name, similarity in self._by_block():
            maps[block][name] = similarity.compare(query[block - 2], code[f"{name}.{block}"])  # (B, K, L, h_b, w_b)
        return maps

    def segment(self, maps: SimilarityMaps, grid: Sequence[int]) -> Prediction:
        """Logits (B, 2, 2h, 2w) on twice block 2's ``grid``, in training mode with those of every block, coarsest first."""
        merged = {block: merge(maps[block]) for block, merge in zip(self.blocks, self.merging, strict=True)}
        if 3 in merged and 4 in merged:
            merged[4] = resize(merged[4], merged[3].shape[2:])  # (B, 2 w, h_4, w_4) to (B, 2 w, h_3, w_3)
        x = self.pyramid(merged, grid)  # (B, 4 w, h_2, w_2)
        logits = self.decoder(x)  # (B, 2, 2 h_2, 2 w_2)
        if not self.training or not self.inner_heads:
            return Prediction(logits)
        inner = {f"block{b}": to_logits(merged[b]) for b, to_logits in zip(self.blocks, self.inner_heads, strict=True)}
        return Prediction(logits, dict(reversed(inner.items())))

    def _by_block(self) -> Iterator[tuple[int, str, AbstractSimilarity]]:
        for i, block in enumerate(self.blocks):
            for name in self.similarities:
                yield block, name, self.similarities[name][i]  # type: ignore[index]  # a ModuleList
