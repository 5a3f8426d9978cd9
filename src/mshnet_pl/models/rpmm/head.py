"""RPMM's segmentation head: residual refinement of an earlier answer, and atrous spatial pyramid pooling."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_RATES = (6, 12, 18)


class RefiningHead(nn.Module):
    """Features and an earlier answer to logits of background and foreground, on the same grid.

    Args:
        width: channels of the features.
        norm: a norm in place of the dropout after the pyramid.
    """

    def __init__(self, width: int, norm: bool = False) -> None:
        super().__init__()
        self.residuals = nn.ModuleList([_residual(width + 2, width), _residual(width, width), _residual(width, width)])
        self.whole, self.pixel = (convolution(width, width, 1, dropout=True) for _ in range(2))
        self.atrous = nn.ModuleList([convolution(width, width, 3, dilation=rate, dropout=True) for rate in _RATES])
        self.join = convolution((2 + len(_RATES)) * width, width, 1, norm=norm, dropout=not norm)
        self.to_logits = nn.Conv2d(width, 2, 1)

    def forward(self, x: Float[Tensor, "n c h w"], earlier: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n 2 h w"]:
        """See the class."""
        first, *others = self.residuals
        x = x + first(torch.cat([x, earlier], dim=1))
        for residual in others:
            x = x + residual(x)
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand_as(x)
        pyramid = [whole, self.pixel(x), *(atrous(x) for atrous in self.atrous)]
        logits: Tensor = self.to_logits(self.join(torch.cat(pyramid, dim=1)))
        return logits


def convolution(
    in_size: int, out_size: int, kernel: int, dilation: int = 1, norm: bool = False, dropout: bool = False
) -> nn.Sequential:
    """A convolution with bias that keeps the size, its norm if any, ReLU, and the dropout of whole channels if any."""
    layers: list[nn.Module] = [nn.Conv2d(in_size, out_size, kernel, padding=kernel // 2 * dilation, dilation=dilation)]
    layers += [nn.BatchNorm2d(out_size)] if norm else []
    layers += [nn.ReLU(inplace=True), *([nn.Dropout2d(0.5)] if dropout else [])]
    return nn.Sequential(*layers)


def _residual(in_size: int, out_size: int) -> nn.Sequential:
    convolutions = (nn.Conv2d(size, out_size, 3, padding=1) for size in (in_size, out_size))
    return nn.Sequential(*(layer for conv in convolutions for layer in (nn.ReLU(), conv)))
