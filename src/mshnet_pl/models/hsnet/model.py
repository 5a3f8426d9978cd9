"""HSNet: Hypercorrelation Squeeze for Few-Shot Segmentation (Min, Kang and Cho, ICCV 2021)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, Masks, SupportCode, SupportFeatures, three_blocks
from mshnet_pl.models.hsnet.squeeze import WIDTHS, SqueezingBlock, resize_to, squeezing_layers
from mshnet_pl.models.layers import count_votes, resize
from mshnet_pl.similarity.pixels import unit

_KERNELS_AND_STRIDES = (((5, 4), (5, 4), (3, 2)), ((5, 4), (3, 2), (3, 2)), ((3, 2), (3, 2), (3, 2)))
"""Of the three squeezing convolutions of blocks 2, 3 and 4: each level ends on the same few support positions."""


class HSNet(AbstractMethod):
    """Cosines of every query pixel with every support pixel in all layers, squeezed by centre-pivot 4D convolutions.

    The support's features (before the last ReLU of their bottlenecks, as the query's) are multiplied by the mask; of the
    cosines the positive ones make a 4D tensor a block. Squeezing shrinks its support positions to a few, mixing adds block
    4's to block 3's and theirs to block 2's, and what is left is averaged over support positions and decoded in 2D. It has
    2,573,794 trainable parameters with ResNet-50. Several shots in tests: each votes alone, at the support's resolution,
    and a pixel is foreground with at least half of the votes of the pixel that has most. In training, on one shot as
    published, the loss is taken on twice block 2's grid (published: on the image's); several shots' logits are averaged.

    The paper's mIoU, 1-shot / 5-shot: PASCAL-5i VGG-16 59.7 / 64.1, ResNet-50 64.0 / 69.5, ResNet-101 66.2 / 70.4; COCO-20i
    ResNet-50 39.2 / 46.9, ResNet-101 41.2 / 49.5.

    Args:
        backbone: of three blocks, finest first.
        fusion: of several shots in tests: ``vote``, or ``mean`` of the logits.

    Raises:
        ValueError: another fusion, or a backbone without exactly three blocks.
    """

    def __init__(self, backbone: AbstractBackbone, fusion: str = "vote") -> None:
        super().__init__()
        if fusion not in ("vote", "mean"):
            raise ValueError(f"fusion={fusion}: give vote or mean")
        blocks = three_blocks(self, backbone)
        self.backbone = backbone
        self.fusion = fusion
        wide, narrow = WIDTHS[2], WIDTHS[1]
        self.squeeze = nn.ModuleList(
            [SqueezingBlock(spec.layers, shape) for spec, shape in zip(blocks, _KERNELS_AND_STRIDES, strict=True)]
        )
        self.mix43, self.mix432 = (squeezing_layers([wide] * 4, [(3, 1)] * 3) for _ in range(2))
        self.refine = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, narrow, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Conv2d(narrow, narrow, 3, padding=1), nn.ReLU(), nn.Conv2d(narrow, 2, 3, padding=1))

    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """Masked unit features (B, K, L, d, h, w) of every block, and the masks (B, K, H, W) for the size of the vote."""
        code = {"mask": (support_mask,)}
        for number, features in enumerate(support, start=2):
            soft = resize(support_mask, features.shape[4:]).to(features.dtype)
            code[f"block{number}"] = (unit(features * soft[:, :, None, None], dim=3),)
        return code

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, 2h, 2w) on twice block 2's grid; those of a vote have the support's size."""
        (mask,) = code["mask"]
        supports = [code[f"block{number}"][0] for number in (2, 3, 4)]
        units = [unit(features, dim=2) for features in query]
        shots = range(mask.shape[1])
        logits = [self._segment(units, [support[:, shot] for support in supports]) for shot in shots]
        if len(logits) == 1 or self.training or self.fusion == "mean":
            return Prediction(torch.stack(logits).mean(0) if len(logits) > 1 else logits[0])
        return Prediction(vote(torch.stack([resize(of_shot, mask.shape[2:]) for of_shot in logits], dim=1)))

    def _segment(self, query: Sequence[Tensor], support: Sequence[Tensor]) -> Float[Tensor, "batch 2 h w"]:
        """Logits of one shot."""
        level2, level3, level4 = (block(*f) for block, *f in zip(self.squeeze, query, support, strict=True))
        x = self.mix43(resize_to(level4, level3) + level3)  # (B, 128, h_3, w_3, few, few)
        x = self.mix432(resize_to(x, level2) + level2)  # (B, 128, h_2, w_2, few, few)
        x = self.refine(x.mean((4, 5)))  # (B, 64, h_2, w_2)
        logits: Tensor = self.head(resize(x, (2 * x.shape[2], 2 * x.shape[3])))  # (B, 2, 2 h_2, 2 w_2)
        return logits


def vote(logits: Float[Tensor, "batch shots 2 h w"]) -> Float[Tensor, "batch 2 h w"]:
    """Logits whose larger one is the shots' decision; exactly half of the votes of the image's pixel with most is enough.

    The margin is twice a pixel's votes less the most, plus 1/2: never 0.
    """
    votes, max_votes = count_votes(logits)
    margin = 2 * votes - max_votes + 0.5
    return torch.stack([-margin / 2, margin / 2], dim=1)
