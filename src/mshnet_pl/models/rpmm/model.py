"""RPMM: Prototype Mixture Models for Few-shot Semantic Segmentation (Yang et al., ECCV 2020, arXiv 2008.03898)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, Masks, SupportCode, SupportFeatures
from mshnet_pl.models.layers import middle_maps, resize
from mshnet_pl.models.randomness import generators
from mshnet_pl.models.rpmm.head import RefiningHead, convolution
from mshnet_pl.models.rpmm.mixture import mixture, probabilities


class RPMM(AbstractMethod):
    """Object and background as a few directions each, found by expectation maximisation, activate the query in stages.

    Blocks 2 and 3 are reduced to one width. A mixture of K unit means is fitted to the supports' object and another to what
    surrounds it, without gradient; the query is convolved with each object mean, the responses are summed, and a map of how
    likely a pixel belongs to either side joins them. Three stages with K = 1, 3, 6 share all weights; each refines what the
    one before found. One support: the last stage decides; several: their pixels make one mixture, and the stages' mean
    probability decides. The means' starts are random, drawn from the supports' masks in tests.

    PMM (``residual=false components=[3]``) is the paper's first form: one stage, which refines the map of probabilities
    itself, with norms. The published code runs the backbone's norms on statistics of the batch and fixes their scales
    (``backbone.batch_statistics``, ``backbone.norms_learn=false``): 19,602,370 trainable parameters, PMM 19,599,298.

    The paper's mIoU with ResNet-50, 1-shot / 5-shot: PASCAL-5i 56.3 / 57.3, PMM 55.2 / 56.8; COCO-20i 30.6 / 35.5.

    Args:
        backbone: trainable, as published, or frozen; its first two blocks are used.
        width: channels of the reduced features.
        components: K of every stage.
        residual: RPMM; false for PMM, whose stages are one.

    Raises:
        ValueError: fewer than two blocks, a width below 1, no stage, or several without ``residual``.
    """

    supports_learn = False

    def __init__(
        self, backbone: AbstractBackbone, width: int = 256, components: Sequence[int] = (1, 3, 6), residual: bool = True
    ) -> None:
        super().__init__()
        if len(backbone.blocks) < 2:
            raise ValueError(f"RPMM needs a backbone of two blocks or more, {type(backbone).__name__} has {backbone.blocks}")
        if width < 1:
            raise ValueError(f"width={width}: give a positive number, 256 for the paper's network")
        if not components or min(components) < 1 or (len(components) > 1 and not residual):
            raise ValueError(f"components={[*components]}: give positive numbers, [1,3,6], or one with residual=false, [3]")
        self.backbone = backbone
        self.components, self.residual, self.width = tuple(components), residual, width
        middle = backbone.blocks[0].channels + backbone.blocks[1].channels
        self.reduce = nn.Sequential(nn.Conv2d(middle, width, 3, padding=2, dilation=2), nn.BatchNorm2d(width), nn.ReLU())
        self.activate = convolution(2 * width, width, 3, dilation=2, norm=not residual, dropout=residual)
        self.gather = convolution(width + 2 * residual, width, 3, norm=not residual, dropout=residual)
        self.head = RefiningHead(width, norm=not residual)
        generator = torch.Generator().manual_seed(0)
        for k in self.components:  # for graphs, which cannot draw by mask
            self.register_buffer(f"start{k}", self.draw(k, generator), persistent=False)
        self.to(memory_format=torch.channels_last)

    def draw(self, k: int, generator: torch.Generator) -> Float[Tensor, "channels k"]:
        """Where k components start."""
        return torch.randn(self.width, k, generator=generator) * (2 / k) ** 0.5

    @torch.no_grad()
    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """Means of object and background (B, K, width) for every stage."""
        batch, shots = support_mask.shape[:2]
        x = torch.stack([self.reduce(middle_maps(support[0][:, k], support[1][:, k])) for k in range(shots)], dim=1)
        soft = resize(support_mask, x.shape[3:])[:, :, None].to(x.dtype)
        inside, outside = ((side * x).permute(0, 1, 3, 4, 2).flatten(1, 3) for side in (soft, 1 - soft))  # (B, K h w, d)
        tracing = torch.compiler.is_compiling()
        streams = [] if tracing else generators(support_mask, self.training)
        starts = [
            getattr(self, f"start{k}").expand(batch, -1, -1) if tracing else torch.stack([self.draw(k, g) for g in streams])
            for k in self.components
        ]
        starts = [start.to(x) for start in starts]
        return {
            "foreground": tuple(mixture(inside, start) for start in starts),
            "background": tuple(mixture(outside, start) for start in starts),
            "shots": (support_mask.new_empty(batch, shots),),
        }

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, h, w) of the last stage, in training with the earlier ones; several shots' mean probability."""
        x = self.reduce(middle_maps(query[0], query[1]))
        stages: list[Tensor] = []
        history = x.new_zeros(len(x), 2, *x.shape[2:])
        for foreground, background in zip(code["foreground"], code["background"], strict=True):
            with torch.no_grad():
                likely = probabilities(x, foreground, background)
            activated = self._activated(x, foreground)
            joined = torch.cat([activated, likely], dim=1) if self.residual else activated
            stages.append(self.head(self.gather(joined), history if self.residual else likely))
            history = stages[-1].softmax(1)
        if code["shots"][0].shape[1] > 1 and self.residual and not self.training:
            return Prediction(torch.stack([logits.softmax(1) for logits in stages]).mean(0), aligned=False)
        earlier = {f"stage{i}": logits for i, logits in enumerate(stages[:-1], 1)} if self.training else {}
        return Prediction(stages[-1], earlier, aligned=False)

    def _activated(self, x: Tensor, means: Float[Tensor, "_ k width"]) -> Float[Tensor, "batch width h w"]:
        """The sum of the activations by every mean, which the convolution sees tiled beside the query.

        A tiled mean's response differs from pixel to pixel at the borders alone: it is that of a plane of ones.
        """
        conv, *rest = self.activate
        assert isinstance(conv, nn.Conv2d)
        of_query, of_mean = conv.weight.split(self.width, dim=1)
        response = conv2d(x, of_query, conv.bias, padding=2, dilation=2)
        kernels = torch.einsum("oiyx,bki->bkoyx", of_mean, means.to(x.dtype))
        planes = conv2d(x.new_ones(1, 1, *x.shape[2:]), kernels.flatten(0, 2)[:, None], padding=2, dilation=2)
        planes = planes[0].unflatten(0, kernels.shape[:3])  # (B or 1, K, width, h, w)
        return torch.stack([nn.Sequential(*rest)(response + plane) for plane in planes.unbind(1)]).sum(0)
