"""ASGNet: Adaptive Prototype Learning and Allocation (Li et al., CVPR 2021, arXiv 2104.01893)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.asgnet.superpixels import clustered, place_seeds
from mshnet_pl.models.base import Masks, SupportCode, SupportFeatures
from mshnet_pl.models.enrichment import EnrichingMethod
from mshnet_pl.models.layers import middle_maps, resize
from mshnet_pl.models.prototypes import masked_mean

_STEPS = {True: 10, False: 5}
"""Of the clustering, in training and otherwise."""
_EPS = 1e-7


class ASGNet(EnrichingMethod):
    """As many prototypes of a support's object as it is large, and for every query pixel the most similar of them.

    Blocks 2 and 3 are reduced to one width. Superpixels of each support's object, up to five, are clustered without gradient
    by looks and place; an object too small for two has its mean. The prototypes of all shots make one set; a query pixel
    takes the one of largest cosine, and the sum of all cosines as its prior, into PFENet's feature enrichment. 10,423,818
    trainable parameters (published: 10.4 M). Published with a frozen ResNet of stride 8 (``backbone.deep_stem``,
    ``backbone.dilation=whole``) whose norms run on statistics of the batch.

    The paper's mIoU, ResNet-101, 1-shot / 5-shot: PASCAL-5i 59.3 / 64.4.

    Args:
        backbone: its first two blocks are used.
        width: channels of the reduced features and of the pyramid.
        bins: as PFENet's.
        area: cells of block 2's grid for a superpixel.
        most: superpixels of a support.
        scale: of the grid of the logits, times block 2's.

    Raises:
        ValueError: fewer than two blocks, a number below 1, bins that are none or not positive.
    """

    supports_learn = False
    exportable = False

    def __init__(
        self,
        backbone: AbstractBackbone,
        width: int = 256,
        bins: Sequence[int | float] = (60, 30, 15, 8),
        area: int = 100,
        most: int = 5,
        scale: int = 1,
    ) -> None:
        super().__init__(width, bins, scale)
        if len(backbone.blocks) < 2:
            raise ValueError(f"ASGNet needs two blocks or more, {type(backbone).__name__} has {backbone.blocks}")
        if area < 1 or most < 1:
            raise ValueError(f"area={area}, most={most}: give numbers of at least 1, 100 and 5 in the published code")
        self.backbone = backbone
        self.area, self.most = area, most
        middle = backbone.blocks[0].channels + backbone.blocks[1].channels
        self.reduce = nn.Sequential(nn.Conv2d(middle, width, 1, bias=False), nn.Dropout2d(0.5))
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """Prototypes (B, N, width) of all shots, and (B, N) bool which of them there are."""
        objects = (support_mask == 1).to(support_mask.dtype)
        sets = []
        x = middle_maps(support[0].flatten(0, 1), support[1].flatten(0, 1), coarse_first=True)
        reduced = self.reduce(x).unflatten(0, support_mask.shape[:2])
        for of_episode, masks in zip(reduced, objects, strict=True):
            sets.append(torch.cat([self._prototypes(*shot) for shot in zip(of_episode, masks, strict=True)]))
        there = nn.utils.rnn.pad_sequence([s.new_ones(len(s)) for s in sets], batch_first=True) > 0
        return {"prototypes": (nn.utils.rnn.pad_sequence(sets, batch_first=True), there)}

    def _prototypes(self, features: Float[Tensor, "width h w"], mask: Tensor) -> Float[Tensor, "n width"]:
        grid = features.shape[1], features.shape[2]
        seeds = torch.from_numpy(place_seeds(mask.cpu().numpy(), grid, self.area, self.most)).to(features.device)
        count = int((seeds != 0).sum(0).amax()) if len(seeds) else 0  # published: how many in neither row nor column 0
        seeds = seeds[:count]
        if count < 2:
            return masked_mean(features[None], mask[None])
        inside = resize(mask[None, None], grid)[0, 0] == 1
        return clustered(features, inside, seeds, _STEPS[self.training])

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, h, w) on ``scale`` times block 2's grid, in training with those of every scale, coarsest first."""
        prototypes, there = code["prototypes"]
        x = self.reduce(middle_maps(query[0], query[1], coarse_first=True))
        products = prototypes @ x.flatten(2)  # (B, N, h w)
        norms = prototypes.norm(dim=2).clamp(min=_EPS)[..., None] * x.flatten(2).norm(dim=1).clamp(min=_EPS)[:, None]
        cosines, there = products / norms, there[..., None]
        prior = (cosines * there).sum(1, keepdim=True)
        nearest = cosines.masked_fill(~there, -2).argmax(1)  # (B, h w)
        chosen = prototypes.expand(len(x), -1, -1).gather(1, nearest[..., None].expand(-1, -1, x.shape[1]))
        guide = chosen.transpose(1, 2).unflatten(2, x.shape[2:])
        return self.enriched(torch.cat([x, guide], dim=1), prior.unflatten(2, x.shape[2:]))
