"""What a few-shot segmentation method promises."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone, BlockSpec, Features
from mshnet_pl.episode import Prediction

SupportFeatures = tuple[Float[Tensor, "batch shots _ _ _ _"], ...]
"""(B, K, L, d, h, w) floating features, one tensor a block, finest block first."""
Masks = Float[Tensor, "batch shots height width"]
"""(B, K, H, W) float32, 1 on the object and 0 elsewhere."""
QueryImages = Float[Tensor, "batch 3 height width"]
SupportImages = Float[Tensor, "batch shots 3 height width"]
"""Normalised, float32."""

SupportCode = Mapping[str, tuple[Tensor, ...]]
"""All that a method keeps of the supports, by name; the first axis of every tensor is the batch's."""

SimilarityMaps = dict[int, dict[str, Float[Tensor, "batch shots layers h w"]]]
"""Similarity maps by block (2, 3, 4) and by the similarity's name."""


class AbstractMethod(nn.Module, ABC):
    """Segments queries with the help of K masked supports. It never sees a query's mask.

    A subclass works on its backbone's features: ``encode`` for supports, once, and ``decode`` for any number of queries.

    Letters of shapes: B episodes with K shots each, or N images, of H x W pixels; a block of the backbone has L maps of d
    channels on a grid of h x w. Images and masks are float32. Features and logits are floating: float32, or what autocast
    makes of them (``trainer.precision=bf16-mixed``: bfloat16).
    """

    backbone: AbstractBackbone
    supports_learn: ClassVar[bool] = True
    """Whether gradients reach a trainable backbone through the supports."""
    exportable: ClassVar[bool] = True
    """Whether one graph serves all supports: not where its shape follows from what the masks show."""

    @abstractmethod
    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """Keep of the supports what ``decode`` needs.

        Args:
            support: (B, K, L, d, h, w) floating features, one tensor a block, finest block first.
            support_mask: (B, K, H, W) float32, 1 on the object and 0 elsewhere.

        Returns:
            Tensors by name, floating or integers, whose first axis is B.
        """

    @abstractmethod
    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Segment queries.

        Args:
            query: (B, L, d, h, w) floating features, one tensor a block, finest block first.
            code: what ``encode`` returned, of the same B or of B = 1, which serves queries of any batch.

        Returns:
            Floating logits (B, 2, h, w), channel 1 foreground, at the method's own grid.
        """

    def forward(self, query: QueryImages, support: SupportImages, support_mask: Masks) -> Prediction:
        """Segment queries from images: ``features``, ``encode``, ``decode``.

        Args:
            query: (B, 3, H, W) float32, normalised with ImageNet's mean and standard deviation (``episode.MEAN``, ``STD``).
            support: (B, K, 3, H, W) likewise, of any number K of shots.
            support_mask: (B, K, H, W) float32, 1 on the object and 0 elsewhere.

        Returns:
            Floating logits (B, 2, h, w), channel 1 foreground, at the method's own grid; ``Prediction.resized`` brings them
            to the image's size.
        """
        of_query, of_support = self.features(query, support)
        code = self.encode(of_support, support_mask)
        del of_support  # not kept for the backward pass
        return self.decode(of_query, code)

    def features(self, query: QueryImages, support: SupportImages) -> tuple[Features, SupportFeatures]:
        """Query and support features of every block.

        From one pass of the backbone, except on a CPU, where images pass one by one anyway: the supports' memory is then
        free as soon as they are encoded. With statistics of the batch, the queries and every shot's images pass alone.
        """
        (batch, shots), images = support.shape[:2], support.flatten(0, 1)
        on_cpu = query.device.type == "cpu" and not torch.compiler.is_compiling()
        if not (on_cpu or self.backbone.training or not self.supports_learn):
            features = self.backbone(torch.cat([query, images]))
            of_query, of_images = tuple(f[:batch] for f in features), tuple(f[batch:] for f in features)
            return of_query, tuple(f.unflatten(0, (batch, shots)) for f in of_images)
        of_query = self.backbone(query)
        with torch.set_grad_enabled(self.supports_learn and torch.is_grad_enabled()):
            if not self.backbone.training:
                return of_query, tuple(f.unflatten(0, (batch, shots)) for f in self.backbone(images))
            of_shots = [self.backbone(shot) for shot in support.unbind(1)]
        return of_query, tuple(torch.stack(block, dim=1) for block in zip(*of_shots, strict=True))

    def learnable_parameters(self) -> int:
        """Number of parameters that training changes: the backbone's too where it is trainable."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


class SimilarityMethod(AbstractMethod):
    """A method that sees a query through its similarities to the supports alone: they can be looked at, or changed."""

    similarities: nn.ModuleDict
    """By name, in the order of ``compare``."""

    @abstractmethod
    def compare(self, query: Features, code: SupportCode) -> SimilarityMaps:
        """(B, L, d, h, w) query features of every block to similarity maps (B, K, L, h, w), by block and name."""

    @abstractmethod
    def segment(self, maps: SimilarityMaps, grid: Sequence[int]) -> Prediction:
        """Similarity maps to logits; ``grid`` is the height and width of block 2."""

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """``compare``, then ``segment``."""
        return self.segment(self.compare(query, code), query[0].shape[3:])

    def similarity_maps(self, query: QueryImages, support: SupportImages, support_mask: Masks) -> SimilarityMaps:
        """``compare`` from images."""
        of_query, of_support = self.features(query, support)
        return self.compare(of_query, self.encode(of_support, support_mask))


def three_blocks(method: AbstractMethod, backbone: AbstractBackbone) -> tuple[BlockSpec, ...]:
    """The blocks 2, 3 and 4 of a backbone, for a method that needs exactly these.

    Raises:
        ValueError: it has fewer or more.
    """
    if len(backbone.blocks) != 3:
        name = type(method).__name__
        raise ValueError(f"{name} needs a backbone of three blocks, {type(backbone).__name__} has {backbone.blocks}")
    return backbone.blocks
