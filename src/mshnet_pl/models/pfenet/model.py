"""PFENet: Prior Guided Feature Enrichment Network (Tian et al., TPAMI 2020)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, SupportCode, three_blocks
from mshnet_pl.models.layers import resize
from mshnet_pl.models.pfenet.prior import prior_mask

_AREA_EPS = 5e-4
_PUBLISHED_GRID = 60


class PFENet(AbstractMethod):
    """Middle features of the query, enriched at several scales by the support's mean and by a prior without parameters.

    The prior of a query pixel is its largest cosine to a support pixel in block 4, scaled to 0..1 over the image. Blocks 2
    and 3, reduced to one width, are pooled to each scale, joined with the support's masked mean and the prior, and fed from
    each scale to the next coarser one. Several shots' means and priors are averaged. 10,817,034 learnable parameters with
    ResNet-50 (published: 10.8 M). Published with a dilated backbone, whose blocks 3 and 4 have block 2's grid, and with the
    support's block 4 computed from masked features: ``dilation: whole`` of the backbone, and ``masked_deep``. Otherwise they
    are upsampled, and masked afterwards.

    The paper's mIoU, 1-shot / 5-shot: PASCAL-5i ResNet-50 60.8 / 61.9, ResNet-101 60.1 / 61.4; COCO-20i ResNet-101 38.5 /
    42.7. Measured, fold 0 of a small part of PASCAL-5i after 6,400 episodes, 1-shot (experiments/field): 45.4.

    Args:
        backbone: of three blocks, finest first.
        width: channels of the reduced features and of the pyramid.
        bins: sides of the pyramid's grids, finest first, where block 2's is 60 x 60; they scale with it.
        masked_deep: mask the supports before block 4, as published; with a ResNet.
        scale: of the grid of the logits, times block 2's; 1 with ``loss.grid=image`` upsamples in one step, as published.

    Raises:
        ValueError: a backbone without exactly three blocks, or one that cannot mask before the last, a width or a scale
            below 1, or bins below 1 or none.
    """

    def __init__(
        self,
        backbone: AbstractBackbone,
        width: int = 256,
        bins: Sequence[int] = (60, 30, 15, 8),
        masked_deep: bool = False,
        scale: int = 2,
    ) -> None:
        super().__init__()
        fine, coarse, _ = three_blocks(self, backbone)
        if width < 1:
            raise ValueError(f"width={width}: give a positive number, 256 for the paper's network")
        if not bins or min(bins) < 1:
            raise ValueError(f"bins={[*bins]}: give one or more positive numbers, [60,30,15,8] in the paper")
        if scale < 1:
            raise ValueError(f"scale={scale}: give 1 or 2")
        if masked_deep and not isinstance(backbone, ResNet):
            raise ValueError(
                f"masked_deep=true: {type(backbone).__name__} gives no block 4 of masked supports; take a ResNet"
            )
        self.backbone = backbone
        self.bins, self.masked_deep, self.scale = tuple(bins), masked_deep, scale
        middle = fine.channels + coarse.channels
        self.reduce_query, self.reduce_support = (
            nn.Sequential(nn.Conv2d(middle, width, 1, bias=False), nn.ReLU(inplace=True), nn.Dropout2d(0.5))
            for _ in range(2)
        )
        self.join = nn.ModuleList([_conv(2 * width + 1, width, 1) for _ in bins])
        self.pass_on = nn.ModuleList([_conv(2 * width, width, 1) for _ in bins[1:]])
        self.enrich = nn.ModuleList([nn.Sequential(_conv(width, width, 3), _conv(width, width, 3)) for _ in bins])
        self.inner_heads = nn.ModuleList([_head(width) for _ in bins])
        self.gather = _conv(len(bins) * width, width, 1)
        self.refine = nn.Sequential(_conv(width, width, 3), _conv(width, width, 3))
        self.head = _head(width)
        self.to(memory_format=torch.channels_last)

    def encode(
        self,
        support: tuple[Float[Tensor, "batch shots _ _ _ _"], ...],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> SupportCode:
        """(B, width) means of the objects, and masked features (B, K, d, h, w) of block 4 for the prior."""
        batch, shots = support_mask.shape[:2]
        middle = self.reduce_support(_middle(tuple(features.flatten(0, 1) for features in support)))
        soft = resize(support_mask, middle.shape[2:]).flatten(0, 1)[:, None].to(middle.dtype)
        means = (middle * soft).sum((2, 3)) / (soft.sum((2, 3)) + _AREA_EPS)  # (B * K, width)
        return {"means": (means.unflatten(0, (batch, shots)).mean(1),), "deep": (self._deep(support, support_mask),)}

    def _deep(self, support: tuple[Tensor, ...], support_mask: Tensor) -> Float[Tensor, "batch shots channels h w"]:
        """The object's features of block 4, (B, K, d, h, w)."""
        if not self.masked_deep:
            return _masked(support[2][:, :, -1], support_mask)
        with torch.set_grad_enabled(self.backbone.trainable and torch.is_grad_enabled()):
            shots = _masked(support[1][:, :, -1], support_mask).unbind(1)
            deep = torch.stack([self.backbone.last_block(shot) for shot in shots], dim=1)  # type: ignore[operator]
        return _masked(deep, support_mask)

    def features(
        self, query: Float[Tensor, "batch 3 height width"], support: Float[Tensor, "batch shots 3 height width"]
    ) -> tuple[Features, tuple[Float[Tensor, "batch shots _ _ _ _"], ...]]:
        """As the base class; where statistics of block 4 move, supports that are masked before it do not pass it unmasked."""
        if not (self.masked_deep and isinstance(self.backbone, ResNet) and self.backbone.training):
            return super().features(query, support)
        of_query = self.backbone(query)
        with self.backbone.cut():
            of_shots = [self.backbone(shot) for shot in support.unbind(1)]
        return of_query, tuple(torch.stack(block, dim=1) for block in zip(*of_shots, strict=True))

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, 2h, 2w) on twice (``scale`` times) block 2's grid, in training mode with those of every scale, coarsest first."""
        (means,), (deep,) = code["means"], code["deep"]
        x = self.reduce_query(_middle(query))
        batch, width, *grid = x.shape
        prior = resize(prior_mask(query[-1][:, -1].relu(), deep), grid).to(x.dtype)
        scales: list[Tensor] = []
        inner: dict[str, Tensor] = {}
        for i, side in enumerate(self.bins):
            size = [max((2 * side * n + _PUBLISHED_GRID) // (2 * _PUBLISHED_GRID), 1) for n in grid]
            of_support = means[:, :, None, None].expand(batch, width, *size)
            y = self.join[i](torch.cat([adaptive_avg_pool2d(x, (size[0], size[1])), of_support, resize(prior, size)], dim=1))
            if scales:
                y = y + self.pass_on[i - 1](torch.cat([y, resize(scales[-1], size)], dim=1))
            y = y + self.enrich[i](y)
            if self.training:
                inner[f"scale{side}"] = self.inner_heads[i](y)
            scales.append(resize(y, grid))
        y = self.gather(torch.cat(scales, dim=1))
        logits = self.head(y + self.refine(y))
        if self.scale > 1:
            logits = resize(logits, [self.scale * side for side in grid])
        return Prediction(logits, dict(reversed(inner.items())))


def _middle(features: Features) -> Float[Tensor, "n channels h w"]:
    """The last maps of blocks 3 and 2 after their ReLU, on block 2's grid."""
    fine, coarse = features[0][:, -1].relu(), features[1][:, -1].relu()
    return torch.cat([resize(coarse, fine.shape[2:]), fine], dim=1)


def _masked(x: Float[Tensor, "batch shots channels h w"], mask: Tensor) -> Float[Tensor, "batch shots channels h w"]:
    return x.relu() * resize(mask, x.shape[3:])[:, :, None].to(x.dtype)


def _conv(in_size: int, out_size: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_size, out_size, kernel, padding=kernel // 2, bias=False), nn.ReLU(inplace=True))


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(_conv(width, width, 3), nn.Dropout2d(0.1), nn.Conv2d(width, 2, 1))
