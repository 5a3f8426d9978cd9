"""Convolution, BatchNorm and ReLU, of which MSHNet's head is made."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from mshnet_pl.backbones.fused_conv_bn import convolve, fuses
from mshnet_pl.models.layers import ReLU


def cbr(in_size: int, out_size: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Convolution with bias that keeps the spatial size, BatchNorm, ReLU."""
    convolution = nn.Conv2d(in_size, out_size, kernel, padding=dilation * (kernel // 2), dilation=dilation)
    return ConvNormReLU(convolution, nn.BatchNorm2d(out_size), ReLU(inplace=True))


class ConvNormReLU(nn.Sequential):
    """The three of them; in eval mode one operator where that is quicker: ``fuses``."""

    def forward(self, x: Float[Tensor, "n _ h w"]) -> Float[Tensor, "n _ h w"]:
        """See the class."""
        convolution, norm, _ = self
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and fuses(x):
            return convolve(convolution, norm, x, relu=True)
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return y

    def every_shot(self, x: Float[Tensor, "n _ h w"], shots: int) -> Float[Tensor, "n _ h w"]:
        """In training, of (B K, ...) images of K shots: as if the first of every episode came first, then the second."""
        convolution, norm, relu = self
        assert isinstance(norm, nn.BatchNorm2d)
        y: Tensor = relu(_norm_every_shot(norm, convolution(x), shots))
        return y


def _norm_every_shot(norm: nn.BatchNorm2d, x: Tensor, shots: int) -> Tensor:
    """BatchNorm in training of (B K, c, h, w), every shot with its own statistics, in one operator for all.

    Shots lie side by side as channels. The running statistics move as by one shot after the other.
    """
    momentum = norm.momentum
    assert momentum is not None and norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None
    side_by_side = x.unflatten(0, (-1, shots)).flatten(1, 2)  # (B, K c, h, w)
    statistics = norm.running_mean.new_zeros(2, shots * x.shape[1])
    weight, bias = norm.weight.repeat(shots), norm.bias.repeat(shots)
    y = batch_norm(side_by_side, statistics[0], statistics[1], weight, bias, training=True, momentum=1.0, eps=norm.eps)
    with torch.no_grad():
        shares = momentum * (1 - momentum) ** torch.arange(shots - 1, -1, -1, device=x.device)
        of_shots = shares.to(statistics.dtype) @ statistics.unflatten(1, (shots, -1))  # (2, c)
        for running, moved in zip((norm.running_mean, norm.running_var), of_shots, strict=True):
            running.mul_((1 - momentum) ** shots).add_(moved)
        norm.num_batches_tracked += shots
    return y.unflatten(1, (shots, -1)).flatten(0, 1)
