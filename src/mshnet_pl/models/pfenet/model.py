"""PFENet: Prior Guided Feature Enrichment Network (Tian et al., TPAMI 2020)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import Masks, QueryImages, SupportCode, SupportFeatures, SupportImages, three_blocks
from mshnet_pl.models.enrichment import EnrichingMethod
from mshnet_pl.models.layers import middle_maps, resize
from mshnet_pl.models.prior import masked_features, prior_mask
from mshnet_pl.models.prototypes import masked_mean


class PFENet(EnrichingMethod):
    """Middle features of the query, enriched at several scales by the support's mean and by a prior without parameters.

    The prior of a query pixel is its largest cosine to a support pixel in block 4, scaled to 0..1 over the image. Blocks 2
    and 3, reduced to one width, are pooled to each scale, joined with the support's masked mean and the prior, and fed from
    each scale to the next coarser one. Several shots' means and priors are averaged. 10,817,034 trainable parameters with
    ResNet-50 (published: 10.8 M). Published with a dilated backbone, whose blocks 3 and 4 have block 2's grid, and with the
    support's block 4 computed from masked features: ``backbone.dilation=whole`` and ``masked_deep``. Otherwise they are
    upsampled, and masked afterwards.

    The paper's mIoU, 1-shot / 5-shot: PASCAL-5i ResNet-50 60.8 / 61.9, ResNet-101 60.1 / 61.4; COCO-20i ResNet-101 38.5 /
    42.7.

    Args:
        backbone: of three blocks, finest first.
        width: channels of the reduced features and of the pyramid.
        bins: sides of the pyramid's grids, finest first, where block 2's is 60 x 60, and scaled with it; a number up to 1
            is a share of the grid.
        masked_deep: mask the supports before block 4, as published; with a ResNet.
        scale: of the grid of the logits, times block 2's; 1 with ``loss.grid=image`` upsamples in one step, as published.

    Raises:
        ValueError: a backbone without exactly three blocks, or one that cannot mask before the last, a width or a scale
            below 1, bins that are none or not positive.
    """

    def __init__(
        self,
        backbone: AbstractBackbone,
        width: int = 256,
        bins: Sequence[int | float] = (60, 30, 15, 8),
        masked_deep: bool = False,
        scale: int = 2,
    ) -> None:
        super().__init__(width, bins, scale)
        fine, coarse, _ = three_blocks(self, backbone)
        if masked_deep and not isinstance(backbone, ResNet):
            raise ValueError(
                f"masked_deep=true: {type(backbone).__name__} gives no block 4 of masked supports; take a ResNet"
            )
        self.backbone = backbone
        self.masked_deep = masked_deep
        middle = fine.channels + coarse.channels
        self.reduce_query, self.reduce_support = (
            nn.Sequential(nn.Conv2d(middle, width, 1, bias=False), nn.ReLU(inplace=True), nn.Dropout2d(0.5))
            for _ in range(2)
        )
        self.to(memory_format=torch.channels_last)

    def features(self, query: QueryImages, support: SupportImages) -> tuple[Features, SupportFeatures]:
        """As the base class; where block 4's statistics move, supports masked before it do not pass it unmasked."""
        if not (self.masked_deep and isinstance(self.backbone, ResNet) and self.backbone.training):
            return super().features(query, support)
        of_query = self.backbone(query)
        with self.backbone.cut():
            of_shots = [self.backbone(shot) for shot in support.unbind(1)]
        return of_query, tuple(torch.stack(block, dim=1) for block in zip(*of_shots, strict=True))

    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """(B, width) means of the objects, and masked features (B, K, d, h, w) of block 4 for the prior."""
        middle = self.reduce_support(middle_maps(support[0].flatten(0, 1), support[1].flatten(0, 1), coarse_first=True))
        means = masked_mean(middle, support_mask.flatten(0, 1)).unflatten(0, support_mask.shape[:2])
        return {"means": (means.mean(1),), "deep": (self._deep(support, support_mask),)}

    def _deep(self, support: tuple[Tensor, ...], support_mask: Tensor) -> Float[Tensor, "batch shots channels h w"]:
        if not self.masked_deep:
            return masked_features(support[2][:, :, -1], support_mask)
        assert isinstance(self.backbone, ResNet)
        with torch.set_grad_enabled(self.backbone.trainable and torch.is_grad_enabled()):
            shots = masked_features(support[1][:, :, -1], support_mask).unbind(1)
            deep = torch.stack([self.backbone.last_block(shot) for shot in shots], dim=1)
        return masked_features(deep, support_mask)

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, 2h, 2w) on twice (``scale`` times) block 2's grid, in training with those of every scale."""
        (means,), (deep,) = code["means"], code["deep"]
        x = self.reduce_query(middle_maps(query[0], query[1], coarse_first=True))
        prior = resize(prior_mask(query[2][:, -1].relu(), deep), x.shape[2:]).to(x.dtype)
        return self.enriched(torch.cat([x, means[:, :, None, None].expand_as(x)], dim=1), prior)
