"""HSNet: Hypercorrelation Squeeze for Few-Shot Segmentation (Min, Kang and Cho, ICCV 2021)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d, interpolate

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, SupportCode
from mshnet_pl.models.layers import resize

_EPS = 1e-5
_WIDTHS = (16, 64, 128)
_GROUPS = 4
_KERNELS_AND_STRIDES = (((5, 4), (5, 4), (3, 2)), ((5, 4), (3, 2), (3, 2)), ((3, 2), (3, 2), (3, 2)))
"""Of the three squeezing convolutions of blocks 2, 3 and 4: each level ends on the same few support positions."""
_MOST_CORRELATIONS = 2**22
"""Held at a time where no gradient needs them: 16 MiB in float32."""

Hyper = Float[Tensor, "_ _ _ _ _ _"]
"""(B, C, hq, wq, hs, ws): batch, channels, query positions, support positions."""


class CentrePivotConv4d(nn.Module):
    """4D convolution whose kernel is zero wherever both the query's and the support's offset differ from the centre.

    Two 2D convolutions, summed: one over query positions, at the support positions that the stride keeps, and one over
    support positions. Sizes stay, but for the support's, which the stride divides (rounded up).

    Args:
        in_size: input channels.
        out_size: output channels.
        kernel: side, odd.
        stride: over support positions.
    """

    def __init__(self, in_size: int, out_size: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.over_query = nn.Conv2d(in_size, out_size, kernel, padding=kernel // 2)
        self.over_support = nn.Conv2d(in_size, out_size, kernel, stride, padding=kernel // 2)

    def forward(self, x: Hyper) -> Hyper:
        """See the class."""
        stride = self.over_support.stride[0]
        return self.query_part(x[..., ::stride, ::stride]) + self.support_part(x)

    def query_part(self, kept: Hyper) -> Hyper:
        """The convolution over query positions; ``kept`` holds the support positions that the stride keeps."""
        batch, height, width = kept.shape[0], kept.shape[4], kept.shape[5]
        planes = kept.permute(0, 4, 5, 1, 2, 3).flatten(0, 2).contiguous()  # (B * hs * ws, C, hq, wq)
        conv = self.over_query
        out = conv2d(planes, conv.weight, conv.bias, padding=conv.padding)
        return out.unflatten(0, (batch, height, width)).permute(0, 3, 4, 5, 1, 2)

    def support_part(self, x: Hyper) -> Hyper:
        """The strided convolution over support positions."""
        conv = self.over_support
        stride, padding = (1, *conv.stride), (0, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2)
        out = conv3d(x.flatten(2, 3), conv.weight[:, :, None], conv.bias, stride, padding)
        return out.unflatten(2, (x.shape[2], x.shape[3]))


def _block(sizes: Sequence[int], kernels_and_strides: Sequence[tuple[int, int]]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for (in_size, out_size), (kernel, stride) in zip(pairwise(sizes), kernels_and_strides, strict=True):
        conv = CentrePivotConv4d(in_size, out_size, kernel, stride)
        layers += [conv, nn.GroupNorm(_GROUPS, out_size), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class SqueezingBlock(nn.Module):
    """Positive cosines of unit features, and three convolutions that shrink their support positions.

    Cosines with pixels outside the mask are 0 and not computed. The half over support positions of the first convolution
    needs all of them, but knows no other query position than its own: it runs on a few query rows at a time, so that all
    cosines are never held at once where no gradient needs them.

    Args:
        layers: how many pairs of maps are compared.
        kernels_and_strides: of each convolution.
    """

    def __init__(self, layers: int, kernels_and_strides: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.first = CentrePivotConv4d(layers, _WIDTHS[0], *kernels_and_strides[0])
        norm = nn.GroupNorm(_GROUPS, _WIDTHS[0])
        self.rest = nn.Sequential(norm, nn.ReLU(inplace=True), *_block(_WIDTHS, kernels_and_strides[1:]))

    def forward(
        self,
        query: Float[Tensor, "batch layers channels query_h query_w"],
        support: Float[Tensor, "_ layers channels support_h support_w"],
    ) -> Hyper:
        """(B, L, d, hq, wq) and (B, L, d, hs, ws), or one support that serves all queries, to (B, 128, hq, wq, few, few)."""
        stride = self.first.over_support.stride[0]
        pixels, grid = support.flatten(3), support.shape[3:]  # (B or 1, L, d, hs * ws)
        whole = torch.compiler.is_compiling()  # the shapes of a graph cannot follow from a mask's values
        inside = None if whole else pixels.flatten(0, 2).any(0).nonzero()[:, 0]
        chosen = pixels if inside is None else pixels[..., inside]
        parts, kept = [], []
        for rows in self._rows(query, pixels.shape[3]):
            cosines = (rows.flatten(3).transpose(2, 3) @ chosen).relu_()  # (B, L, rows * wq, chosen)
            if inside is not None:
                zeros = cosines.new_zeros(*cosines.shape[:3], pixels.shape[3])
                cosines = zeros.index_copy_(3, inside, cosines)
            hyper = cosines.unflatten(3, grid).unflatten(2, rows.shape[3:])
            parts.append(self.first.support_part(hyper))
            kept.append(hyper[..., ::stride, ::stride].contiguous())
        squeezed: Tensor = self.rest(torch.cat(parts, dim=2) + self.first.query_part(torch.cat(kept, dim=2)))
        return squeezed

    def _rows(self, query: Tensor, pixels: int) -> Sequence[Tensor]:
        if torch.compiler.is_compiling():  # a graph cannot loop over rows of any number
            return [query]
        row = len(query) * query.shape[1] * query.shape[4] * pixels
        return query.split(max(_MOST_CORRELATIONS // row, 1), dim=3)


class HSNet(AbstractMethod):
    """Cosines of every query pixel with every support pixel in all layers, squeezed by centre-pivot 4D convolutions.

    The support's features (before the last ReLU of their bottlenecks, as the query's) are multiplied by the mask; of the
    cosines the positive ones make a 4D tensor a block. Squeezing shrinks its support positions to a few, mixing adds block
    4's to block 3's and theirs to block 2's, and what is left is averaged over support positions and decoded in 2D. It has
    2,573,794 learnable parameters with ResNet-50. Several shots in tests: each votes alone, at the support's resolution,
    and a pixel is foreground with at least half of the votes of the pixel that has most. In training, on one shot as
    published, the loss is taken on twice block 2's grid (published: on the image's); several shots' logits are averaged.

    The paper's mIoU, 1-shot / 5-shot: PASCAL-5i VGG-16 59.7 / 64.1, ResNet-50 64.0 / 69.5, ResNet-101 66.2 / 70.4; COCO-20i
    ResNet-50 39.2 / 46.9, ResNet-101 41.2 / 49.5. Measured, fold 0 of a small part of PASCAL-5i after 6,400 episodes, 1-shot
    (experiments/field): 23.6.

    Args:
        backbone: of three blocks, finest first.
        fusion: of several shots in tests: ``vote``, or ``mean`` of the logits.

    Raises:
        ValueError: another fusion, or a backbone without exactly three blocks.
    """

    def __init__(self, backbone: AbstractBackbone, fusion: str = "vote") -> None:
        super().__init__()
        if fusion not in ("vote", "mean"):
            raise ValueError(f"model.fusion={fusion}: give vote or mean")
        if len(backbone.blocks) != len(_KERNELS_AND_STRIDES):
            raise ValueError(f"HSNet needs a backbone of three blocks, {type(backbone).__name__} has {backbone.blocks}")
        self.backbone = backbone
        self.fusion = fusion
        wide, narrow = _WIDTHS[2], _WIDTHS[1]
        self.squeeze = nn.ModuleList(
            [SqueezingBlock(s.layers, shape) for s, shape in zip(backbone.blocks, _KERNELS_AND_STRIDES, strict=True)]
        )
        self.mix43, self.mix432 = (_block([wide] * 4, [(3, 1)] * 3) for _ in range(2))
        self.refine = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, narrow, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Conv2d(narrow, narrow, 3, padding=1), nn.ReLU(), nn.Conv2d(narrow, 2, 3, padding=1))

    def encode(
        self,
        support: tuple[Float[Tensor, "batch shots _ _ _ _"], ...],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> SupportCode:
        """Masked unit features (B, K, L, d, h, w) of every block, and the masks (B, K, H, W) for the size of the vote."""
        code = {"mask": (support_mask,)}
        for number, features in enumerate(support, start=2):
            soft = resize(support_mask, features.shape[4:]).to(features.dtype)
            code[f"block{number}"] = (_unit(features * soft[:, :, None, None], dim=3),)
        return code

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, 2h, 2w) on twice block 2's grid; those of a vote have the support's size."""
        (mask,) = code["mask"]
        supports = [code[f"block{number}"][0] for number in (2, 3, 4)]
        units = [_unit(features, dim=2) for features in query]
        shots = range(mask.shape[1])
        logits = [self._segment(units, [support[:, shot] for support in supports]) for shot in shots]
        if len(logits) == 1 or self.training or self.fusion == "mean":
            return Prediction(torch.stack(logits).mean(0) if len(logits) > 1 else logits[0])
        return Prediction(vote(torch.stack([resize(of_shot, mask.shape[2:]) for of_shot in logits], dim=1)))

    def _segment(self, query: Sequence[Tensor], support: Sequence[Tensor]) -> Float[Tensor, "batch 2 h w"]:
        """Logits of one shot."""
        level2, level3, level4 = (block(*f) for block, *f in zip(self.squeeze, query, support, strict=True))
        mixed = self.mix43(_resize_to(level4, level3) + level3)
        mixed = self.mix432(_resize_to(mixed, level2) + level2)
        refined = self.refine(mixed.mean((4, 5)))  # (B, 128, h, w) to (B, 64, h, w)
        logits: Tensor = self.head(resize(refined, (2 * refined.shape[2], 2 * refined.shape[3])))
        return logits


def vote(logits: Float[Tensor, "batch shots 2 h w"]) -> Float[Tensor, "batch 2 h w"]:
    """Logits whose larger one is the shots' decision.

    A shot votes where its foreground wins; a pixel is foreground if it has at least half of the votes of the image's pixel
    that has most (at least 1). The margin is twice its votes less that many, plus 1/2: never 0.
    """
    votes = (logits[:, :, 1] > logits[:, :, 0]).sum(1).to(logits.dtype)  # (B, h, w)
    most = votes.amax((1, 2), keepdim=True).clamp(min=1)
    margin = 2 * votes - most + 0.5
    return torch.stack([-margin / 2, margin / 2], dim=1)


def _unit(x: Tensor, dim: int) -> Tensor:
    return x / (torch.linalg.vector_norm(x, dim=dim, keepdim=True) + _EPS)


def _resize_to(x: Hyper, other: Hyper) -> Hyper:
    """Bilinearly to the query's grid of ``other``, and to the support's where rounding has made them differ."""
    batch, channels = x.shape[:2]
    if x.shape[4:] != other.shape[4:]:
        planes = resize(x.flatten(0, 3)[:, None], other.shape[4:])
        x = planes[:, 0].unflatten(0, (batch, channels, *x.shape[2:4]))
    planes = x.permute(0, 4, 5, 1, 2, 3).flatten(0, 2)  # (B * hs * ws, C, hq, wq)
    resized = interpolate(planes, other.shape[2:4], mode="bilinear", align_corners=True)
    return resized.unflatten(0, (batch, *other.shape[4:])).permute(0, 3, 4, 5, 1, 2)
