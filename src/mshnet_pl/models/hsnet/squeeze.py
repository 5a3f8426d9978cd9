"""HSNet's parts on 4D correlations: centre-pivot convolutions, and the block that squeezes the support's positions."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d, interpolate

from mshnet_pl.models.layers import resize

WIDTHS = (16, 64, 128)
"""Channels after each of a block's three squeezing convolutions."""
_GROUPS = 4
_MAX_CORRELATIONS = 2**22
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


def squeezing_layers(sizes: Sequence[int], kernels_and_strides: Sequence[tuple[int, int]]) -> nn.Sequential:
    """Convolutions from size to size, each with its GroupNorm and ReLU."""
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
        self.first = CentrePivotConv4d(layers, WIDTHS[0], *kernels_and_strides[0])
        norm = nn.GroupNorm(_GROUPS, WIDTHS[0])
        self.rest = nn.Sequential(norm, nn.ReLU(inplace=True), *squeezing_layers(WIDTHS, kernels_and_strides[1:]))

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
        return query.split(max(_MAX_CORRELATIONS // row, 1), dim=3)


def resize_to(x: Hyper, other: Hyper) -> Hyper:
    """Bilinearly to the query's grid of ``other``, and to the support's where rounding has made them differ."""
    batch, channels = x.shape[:2]
    if x.shape[4:] != other.shape[4:]:
        planes = resize(x.flatten(0, 3)[:, None], other.shape[4:])
        x = planes[:, 0].unflatten(0, (batch, channels, *x.shape[2:4]))
    planes = x.permute(0, 4, 5, 1, 2, 3).flatten(0, 2)  # (B * hs * ws, C, hq, wq)
    resized = interpolate(planes, other.shape[2:4], mode="bilinear", align_corners=True)
    return resized.unflatten(0, (batch, *other.shape[4:])).permute(0, 3, 4, 5, 1, 2)
