"""MSHNet-lite: MSHNet (Shi et al., arXiv 2203.09550) under 3 million trainable parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.similarity.base import AbstractSimilarity


class MSHNetLite(MSHNet):
    """MSHNet whose 3 x 3 convolutions are depthwise separable; this project's own, no published figures.

    All that the paper's accuracy is said to rest on stays: both similarities of every layer, a merging block for each
    block, the top-down pyramid, deep supervision. Nearly all of MSHNet's parameters are in 3 x 3 convolutions between
    hundreds of channels, whose input is a handful of similarity maps: each is split into one 3 x 3 filter a channel
    (Chollet, CVPR 2017) and a 1 x 1 convolution, an eighth of the parameters and products. Those that
    give logits stay as they are.

    With ResNet-50, both similarities and width 96 it has 2,444,664 trainable parameters. Measured, fold 0 of a small
    part of PASCAL-5i after 6,400 episodes, 1-shot (experiments/field): 45.7, where MSHNet has 52.0.

    Args:
        backbone: as MSHNet's.
        similarities: as MSHNet's.
        width: base width.
        **switches: as MSHNet's.

    Raises:
        ValueError: as MSHNet.
    """

    def __init__(
        self,
        backbone: AbstractBackbone,
        similarities: Mapping[str, Callable[[int], AbstractSimilarity]] | None,
        width: int = 96,
        **switches: Any,  # noqa: ANN401 - MSHNet's own
    ) -> None:
        super().__init__(backbone, similarities, width, **switches)
        for part in (self.merging, self.pyramid, self.decoder, self.inner_heads):
            separate(part)
        self.to(memory_format=torch.channels_last)


class Depthwise(nn.Conv2d):
    """One filter a channel; on a CPU in the weights' own precision, whatever autocast says.

    oneDNN's gradient of dilated bf16 filters depends on memory that nobody has written (torch 2.15).
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """See the class."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype))


def separate(part: nn.Module) -> None:
    """Replace every 3 x 3 convolution inside, but those that give two logits, by a depthwise and a 1 x 1 one."""
    for name, child in part.named_children():
        if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3) and child.out_channels > 2:
            inside, dilation = child.in_channels, child.dilation[0]
            filters = Depthwise(inside, inside, 3, padding=dilation, dilation=dilation, groups=inside, bias=False)
            setattr(
                part, name, nn.Sequential(filters, nn.Conv2d(inside, child.out_channels, 1, bias=child.bias is not None))
            )
        else:
            separate(child)
