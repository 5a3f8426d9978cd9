"""FWB: Feature Weighting and Boosting for Few-Shot Segmentation (Nguyen and Todorovic, ICCV 2019, arXiv 1909.13140)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate, normalize

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, Masks, QueryImages, SupportCode, SupportFeatures, SupportImages
from mshnet_pl.models.fwb.boosting import boost
from mshnet_pl.models.layers import resize

_EPS = 1e-16


class FWB(AbstractMethod):
    """The query's cosines to the support's class vector, features weighted by relevance, gate its finest map.

    The relevance of a channel of the last block is how much its mean over the object exceeds that over the background, as a
    unit vector. Cosines of query pixels with the mean object vector, both weighted by it, scaled to at most 1, multiply
    the finest map, which two convolutions decode. In tests the class vector is refined on the supports themselves by a
    few steps of Adam; every step's vector is an expert that votes with the IoU it reached there. Published with a ResNet-101
    that learns (``backbone.dilation=torchvision blocks=[1,4]``, statistics of the batch with momentum 0.05): 42,795,458
    trainable parameters.

    The paper's mIoU, ResNet-101, 1-shot / 5-shot: PASCAL-5i 56.2 / 59.9; COCO-20i 21.2 / 23.7.

    Args:
        backbone: trainable, as published, or frozen; its first and its last block are used.
        weighting: weigh features by relevance.
        experts: votes in tests; 0 for a single one, of the class vector itself.
        rate: of Adam.
        threshold: what the sum of the votes must exceed.
        shadowed: decode the query from the last support's finest map, as a slip in the published code does with several
            shots.

    Raises:
        ValueError: fewer than two blocks, fewer than no experts, a rate or a threshold that is not positive.
    """

    supports_learn = False
    exportable = False

    def __init__(
        self,
        backbone: AbstractBackbone,
        weighting: bool = True,
        experts: int = 11,
        rate: float = 0.01,
        threshold: float = 0.8,
        shadowed: bool = False,
    ) -> None:
        super().__init__()
        if len(backbone.blocks) < 2:
            raise ValueError(f"FWB needs a backbone of two blocks or more, {type(backbone).__name__} has {backbone.blocks}")
        if experts < 0:
            raise ValueError(f"experts={experts}: give 0 for none, 11 in the published code")
        if rate <= 0 or threshold <= 0:
            raise ValueError(
                f"rate={rate}, threshold={threshold}: give positive numbers, 0.01 and 0.8 in the published code"
            )
        self.backbone = backbone
        self.weighting, self.experts, self.rate = weighting, experts, rate
        self.threshold, self.shadowed = threshold, shadowed
        self.exit = nn.Sequential(
            nn.Conv2d(backbone.blocks[0].channels, 128, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(128, 2, 1)
        )
        for layer in self.exit:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")

    def features(self, query: QueryImages, support: SupportImages) -> tuple[Features, SupportFeatures]:
        """As the base class; supports pass by the running statistics, which the queries have just moved."""
        if not self.backbone.training:
            return super().features(query, support)
        of_query = self.backbone(query)
        self.backbone.eval()
        with torch.no_grad():
            of_images = self.backbone(support.flatten(0, 1))
        self.backbone.train()
        return of_query, tuple(f.unflatten(0, support.shape[:2]) for f in of_images)

    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """Relevance (B, d) and class vector (B, d); in tests also experts (B, n, d) and their votes' weights (B, n)."""
        deep, low = support[-1][:, :, -1].detach(), support[0][:, :, -1].detach().relu()
        mask = interpolate(support_mask, deep.shape[3:], mode="nearest")[:, :, None]
        means = []
        for side in (mask == 1, mask == 0):
            total = (deep * side).sum((3, 4)) / side.sum((3, 4)).clamp(min=1)  # (B, K, d)
            means.append(total.sum(1))
        inside, outside = means
        relevance = normalize(inside - outside, dim=1) if self.weighting else torch.ones_like(inside)
        code = {"relevance": (relevance,), "vector": (inside,)}
        if self.training or not self.experts:
            return code
        boosted = boost(self.segment, deep, low, support_mask, relevance, inside, self.experts, self.rate)
        return {**code, "boosted": (*boosted, support_mask, *([low[:, -1]] if self.shadowed else []))}

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, h, w) on the finest map's grid; with experts the threshold and the votes at the support's size."""
        deep, low = query[-1][:, -1], query[0][:, -1].relu()
        (relevance,), (vector,) = code["relevance"], code["vector"]
        deep = deep * relevance[:, :, None, None]
        if "boosted" not in code:
            return Prediction(self.segment(deep, low, relevance * vector))
        experts, weights, mask, *other = code["boosted"]
        low = other[0].expand(len(low), -1, -1, -1) if other else low
        score = deep.new_zeros(len(deep), *mask.shape[2:])
        for expert, weight in zip(experts.unbind(1), weights.unbind(1), strict=True):
            logits = resize(self.segment(deep, low, expert), mask.shape[2:])
            score = score + weight[:, None, None] * (logits[:, 1] > logits[:, 0])
        return Prediction(torch.stack([torch.full_like(score, self.threshold), score], dim=1))

    def similarity(
        self, deep: Float[Tensor, "batch d h w"], vector: Float[Tensor, "_ d"], size: torch.Size
    ) -> Float[Tensor, "batch 1 h2 w2"]:
        """Positive cosines of weighted features with a weighted vector, at a size, scaled to at most 1."""
        cosines = cosine_similarity(deep, vector[:, :, None, None], dim=1)[:, None].relu()
        cosines = resize(cosines, size)
        return cosines / (cosines.amax((1, 2, 3), keepdim=True) + _EPS)

    def segment(
        self, deep: Float[Tensor, "batch d h w"], low: Float[Tensor, "batch c h2 w2"], vector: Float[Tensor, "_ d"]
    ) -> Float[Tensor, "batch 2 h2 w2"]:
        """Logits from weighted deep features, a finest map and a weighted class vector."""
        logits: Tensor = self.exit(low * self.similarity(deep, vector, low.shape[2:]))
        return logits
