"""MSHNet: multi-similarity based hyperrelation network (Shi et al., arXiv 2203.09550)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, SupportCode
from mshnet_pl.models.layers import resize
from mshnet_pl.models.mshnet.decoder import Decoder, Pyramid, head
from mshnet_pl.models.mshnet.merging import SymmetricMergingBlock
from mshnet_pl.similarity.base import AbstractSimilarity
from mshnet_pl.similarity.masks import object_masks

_BLOCKS = (2, 3, 4)
_LEAST_VARIANCE = 1e-6

SimilarityMaps = dict[int, dict[str, Float[Tensor, "batch shots layers h w"]]]
"""Similarity maps by block (2, 3, 4) and by the similarity's name."""


class MSHNet(AbstractMethod):
    """Similarities of every backbone layer, merged per block by an SMB and over blocks by a top-down pyramid.

    With ResNet-50 and both similarities it has 29,626,952 learnable parameters; nothing in it depends on the number of
    shots or on the image's size.

    The paper's mIoU, 1-shot / 5-shot: PASCAL-5i ResNet-50 65.5 / 69.9. Measured, fold 0 of a small part of PASCAL-5i after
    6,400 episodes, 1-shot (experiments/field): 52.0.

    Args:
        backbone: frozen; its blocks are block 2, 3 and 4, finest first.
        similarities: name to a factory that takes a block's channels.
        width: base width; 128 is the paper's, a smaller one gives a smaller network of the same shape.
        blocks: which blocks' similarities are used.
        channel_gate: gate the merged channels of every block.
        atrous: Shot-Conv with dilated branches on the paths whose similarity asks for them.
        deep_supervision: intermediate logits of every block in training mode.
        standardise: give every similarity map of a layer and a shot mean 0 and variance 1 over the query before it is
            merged. Not the paper's: base classes are learned faster, and held-out ones were segmented worse
            (experiments/improved.md).
        self_support: how often, outside of training, a query with what was found in it is taken as one more of its own
            supports. Not the paper's; after Fan et al., ECCV 2022: an object is most like itself.
        late_fusion: a similarity's name to the factor by which, outside of training, its mean map (over shots, layers and
            blocks) is added to the object's logit. Not the paper's; it gained nothing on fold 0's novel classes
            (experiments/improved.md).

    Raises:
        ValueError: no similarity, a backbone without exactly three blocks, blocks other than 2, 3 and 4, a width that is no
            multiple of 2, a negative ``self_support``, or a ``late_fusion`` of a similarity that there is not or by a factor
            that is not finite.
    """

    def __init__(
        self,
        backbone: AbstractBackbone,
        similarities: Mapping[str, Callable[[int], AbstractSimilarity]],
        width: int = 128,
        blocks: Sequence[int] = (2, 3, 4),
        channel_gate: bool = True,
        atrous: bool = True,
        deep_supervision: bool = True,
        standardise: bool = False,
        self_support: int = 0,
        late_fusion: Mapping[str, int | float] | None = None,
    ) -> None:
        super().__init__()
        if not similarities:
            raise ValueError("similarity=[]: MSHNet needs at least one of cosine, prototype")
        if len(backbone.blocks) != len(_BLOCKS):
            raise ValueError(f"MSHNet needs a backbone of three blocks, {type(backbone).__name__} has {backbone.blocks}")
        if width < 2 or width % 2:
            raise ValueError(f"model.width={width}: give a positive even number, 128 for the paper's network")
        if not blocks or len({*blocks}) < len(blocks) or not {*blocks} <= {*_BLOCKS}:
            raise ValueError(f"model.blocks={[*blocks]}: give one or more of 2, 3, 4, each once")
        if self_support < 0:
            raise ValueError(f"model.self_support={self_support}: give 0, or how often a query supports itself")
        for name, factor in (late_fusion or {}).items():
            if name not in similarities or not math.isfinite(factor):
                raise ValueError(f"model.late_fusion={{{name}: {factor}}}: give one of {[*similarities]} a finite factor")
        self.backbone = backbone
        specs = {block: spec for block, spec in zip(_BLOCKS, backbone.blocks, strict=True) if block in blocks}
        built = {name: [make(spec.channels) for spec in specs.values()] for name, make in similarities.items()}
        self.blocks = tuple(specs)
        self._standardise, self._self_support = standardise, self_support
        self._late_fusion = dict(late_fusion or {})
        self.similarities = nn.ModuleDict({name: nn.ModuleList(per_block) for name, per_block in built.items()})
        paths = {name: (per_block[0].wide, per_block[0].atrous and atrous) for name, per_block in built.items()}
        self.merging = nn.ModuleList(
            [SymmetricMergingBlock(spec.layers, paths, width, channel_gate) for spec in specs.values()]
        )
        self.pyramid = Pyramid(width, self.blocks)
        self.decoder = Decoder(width)
        self.inner_heads = nn.ModuleList([head(2 * width) for _ in self.blocks if deep_supervision])
        self.to(memory_format=torch.channels_last)

    def encode(
        self,
        support: tuple[Float[Tensor, "batch shots _ _ _ _"], ...],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> SupportCode:
        """What every similarity needs of the supports, named ``SIMILARITY.BLOCK``."""
        objects = object_masks(support_mask, [(f.shape[4], f.shape[5]) for f in support])
        return {
            f"{name}.{block}": similarity.encode(support[block - 2], objects[block - 2])
            for block, similarities in self._by_block()
            for name, similarity in similarities.items()
        }

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, 2h, 2w) on twice block 2's grid, in training mode with intermediate ones."""
        maps, grid = self.compare(query, code), query[0].shape[3:]
        prediction = self.segment(maps, grid)
        for _ in range(0 if self.training else self._self_support):
            found = (prediction.logits[:, 1:] > prediction.logits[:, :1]).float()  # (B, 1, 2h, 2w)
            own = self.compare(query, self.encode(tuple(f[:, None] for f in query), found))
            joined = {b: {name: torch.cat([m, own[b][name]], dim=1) for name, m in maps[b].items()} for b in maps}
            logits = self.segment(joined, grid).logits
            prediction = Prediction(torch.where(found.amax((2, 3), keepdim=True) > 0, logits, prediction.logits))
        return prediction

    def compare(self, query: Features, code: SupportCode) -> SimilarityMaps:
        """Every similarity's maps (B, K, L, h, w), by block and name."""
        return {
            block: {name: s.compare(query[block - 2], code[f"{name}.{block}"]) for name, s in similarities.items()}
            for block, similarities in self._by_block()
        }

    def _by_block(self) -> Iterator[tuple[int, dict[str, AbstractSimilarity]]]:
        for i, block in enumerate(self.blocks):
            yield block, {name: self.similarities[name][i] for name in self.similarities}  # type: ignore[index]

    def similarity_maps(
        self,
        query: Float[Tensor, "batch 3 height width"],
        support: Float[Tensor, "batch shots 3 height width"],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> SimilarityMaps:
        """``compare`` from images."""
        of_query, of_support = self.features(query, support)
        return self.compare(of_query, self.encode(of_support, support_mask))

    def segment(self, maps: SimilarityMaps, grid: Sequence[int]) -> Prediction:
        """Merge similarity maps into logits on twice block 2's ``grid``."""
        seen = maps
        if self._standardise:
            seen = {block: {name: standardised(m) for name, m in by_name.items()} for block, by_name in maps.items()}
        merged = {block: merge(seen[block]) for block, merge in zip(self.blocks, self.merging, strict=True)}
        if 3 in merged and 4 in merged:
            merged[4] = resize(merged[4], merged[3].shape[2:])
        logits = self.decoder(self.pyramid(merged, grid))
        if not self.training:
            return Prediction(self._fused(logits, maps))
        if not self.inner_heads:
            return Prediction(logits)
        heads = zip(self.blocks, self.inner_heads, strict=True)
        inner = {f"block{block}": inner_head(merged[block]) for block, inner_head in heads}
        return Prediction(logits, dict(reversed(inner.items())))

    def _fused(self, logits: Tensor, maps: SimilarityMaps) -> Tensor:
        """(B, 2, h, w) logits with what ``late_fusion`` adds."""
        for name, factor in self._late_fusion.items():
            means = [resize(by_name[name].mean((1, 2))[:, None], logits.shape[2:]) for by_name in maps.values()]
            said = factor * torch.stack(means).mean(0)  # (B, 1, h, w)
            logits = logits + torch.cat([torch.zeros_like(said), said], dim=1)
        return logits


def standardised(maps: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Each map with mean 0 and variance 1, in at least float32; one that is the same everywhere becomes 0."""
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    variance, mean = torch.var_mean(maps, dim=(-2, -1), correction=0, keepdim=True)
    return (maps - mean) * torch.rsqrt(variance + _LEAST_VARIANCE)
