"""ResNet-50 and ResNet-101 (He et al., CVPR 2016) as torchvision builds them, with the variants of few-shot segmentation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torchvision
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from mshnet_pl.backbones.base import AbstractBackbone, BlockSpec, Maps
from mshnet_pl.backbones.fused_conv_bn import convolve
from mshnet_pl.backbones.weights import load_named
from mshnet_pl.utils.relu import relu

_DILATIONS = ("none", "torchvision", "whole")


class ResNet(AbstractBackbone):
    """Every bottleneck's output of ``layer2..4`` before its last ReLU.

    =====  ===============  ========  ======
    block  maps (50 / 101)  channels  stride
    =====  ===============  ========  ======
    2      4                512       8
    3      6 / 23           1024      16
    4      3                2048      32
    =====  ===============  ========  ======

    Dilated, blocks 3 and 4 have stride 8 as well.

    Args:
        depth: 50 or 101.
        weights: ``imagenet`` (torchvision's IMAGENET1K_V1), ``random``, or the path of a state dict.
        stride_in_1x1: put the stride of a down-sampling bottleneck on its first 1 x 1 convolution, as the original
            ResNet has it, instead of on the 3 x 3 (torchvision, "v1.5"). Files of both kinds have the same names and
            shapes, and the wrong choice costs accuracy without any error.
        trainable: learn the parameters too; batch statistics stay as loaded, but for ``batch_statistics``.
        deep_stem: three 3 x 3 convolutions to 64, 64 and 128 channels instead of one 7 x 7. torchvision has no weights for
            it; the state dict has ``conv1``, ``bn1`` to ``conv3``, ``bn3``, as semseg's (PSPNet's authors) has.
        dilation: ``none``; 2 in block 3 and 4 in block 4 in place of their strides: from the second bottleneck on
            (``torchvision``, its ``replace_stride_with_dilation``), or in all of the block (``whole``: PSPNet's).
        ceil_pool: round the size after the stem's pooling up.
        blocks: which of blocks 1 to 4 give features, finest first; those after the last are not built.
        last_maps: give the last map of a block alone.
        learns_from: first block that learns where the network is trainable; 0 for the stem too.
        norms_learn: learn scales and shifts of the norms too, where the network is trainable.
        batch_statistics: in training, normalise with statistics of the batch and update the running ones, in the blocks
            that learn, in all of a frozen network.
        momentum: of the running statistics.

    Raises:
        ValueError: another depth or dilation, blocks that are none or out of order, or weights that do not fit.
    """

    convolutions_alone = True

    def __init__(
        self,
        depth: int = 50,
        weights: str = "imagenet",
        stride_in_1x1: bool = False,
        trainable: bool = False,
        deep_stem: bool = False,
        dilation: str = "none",
        ceil_pool: bool = False,
        blocks: Sequence[int] = (2, 3, 4),
        last_maps: bool = False,
        learns_from: int = 0,
        norms_learn: bool = True,
        batch_statistics: bool = False,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if depth not in (50, 101):
            raise ValueError(f"depth={depth}: a ResNet here has 50 or 101 layers")
        if dilation not in _DILATIONS:
            raise ValueError(f"dilation={dilation}: give {', '.join(_DILATIONS)}")
        if not blocks or [*blocks] != sorted({*blocks}) or not {*blocks} <= {1, 2, 3, 4}:
            raise ValueError(f"blocks={[*blocks]}: give some of 1, 2, 3, 4, ascending")
        if deep_stem and weights == "imagenet":
            raise ValueError("weights=imagenet: torchvision has no network with deep_stem; give a file, or weights=random")
        if not 0 <= learns_from <= blocks[-1]:
            raise ValueError(f"learns_from={learns_from}: give the number of a block, at most {blocks[-1]}, or 0 for all")
        dilated = [dilation == "torchvision"] * 2
        self.net: Any = getattr(torchvision.models, f"resnet{depth}")(replace_stride_with_dilation=[False, *dilated])
        if deep_stem:
            _deepen_stem(self.net)
        load_named(self.net, weights, f"ResNet{depth}_Weights.IMAGENET1K_V1", classifier="fc.")
        self.net.fc = nn.Identity()
        if stride_in_1x1:
            for stage in self._stages()[1:]:
                first: Any = stage[0]
                first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
        if dilation == "whole":
            for stage, rate in zip(self._stages()[2:], (2, 4), strict=True):
                _dilate(stage, rate)
        self.net.maxpool.ceil_mode = ceil_pool
        for number in range(blocks[-1] + 1, 5):
            setattr(self.net, f"layer{number}", nn.Sequential())
        self._given, self._last_maps, self._cut = tuple(blocks), last_maps, False
        self._learns_from, self.batch_statistics = learns_from, batch_statistics
        strides = (4, 8, 16, 32) if dilation == "none" else (4, 8, 8, 8)
        self.blocks = tuple(
            BlockSpec(layers=1 if last_maps else len(stage), channels=_channels(stage), stride=stride)
            for number, (stage, stride) in enumerate(zip(self._stages(), strides, strict=True), 1)
            if number in blocks
        )
        self.freeze(trainable)
        for norm in self._norms(self):
            norm.momentum = momentum
            norm.requires_grad_(trainable and norms_learn)
        if trainable and learns_from:
            self.net.requires_grad_(False)
            for part in self._learning():
                part.requires_grad_(True)

    def maps(self, images: Float[Tensor, "n 3 height width"]) -> Maps:
        """See the class."""
        net = self.net
        x = convolve(net.conv1, net.bn1, images, relu=True)
        if hasattr(net, "conv2"):
            x = convolve(net.conv2, net.bn2, x, relu=True)
            x = convolve(net.conv3, net.bn3, x, relu=True)
        x = net.maxpool(x)
        blocks = []
        for number in range(1, (self._given[-2] if self._cut else self._given[-1]) + 1):
            if number not in self._given:
                for bottleneck in self._stages()[number - 1]:
                    x = _bottleneck(bottleneck, x, last_relu=True)
                continue
            maps = self._maps(number, x)
            x = relu(maps[-1])
            blocks.append(maps[-1:] if self._last_maps else maps)
        return blocks

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Within, the last block is neither computed nor given."""
        self._cut = True
        try:
            yield
        finally:
            self._cut = False

    def last_block(self, x: Float[Tensor, "n _ _ _"]) -> Float[Tensor, "n _ _ _"]:
        """The last block's last map from what comes before that block, after its ReLU; in the network's own mode."""
        return self._maps(self._given[-1], x)[-1]

    def _maps(self, number: int, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for bottleneck in self._stages()[number - 1]:
            maps.append(_bottleneck(bottleneck, relu(maps[-1]) if maps else x))
        return maps

    def _stages(self) -> tuple[nn.Sequential, ...]:
        return self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4

    def _learning(self) -> Sequence[nn.Module]:
        """The parts that learn where the network is trainable."""
        return self._stages()[self._learns_from - 1 :] if self._learns_from else [self.net]

    def moving_norms(self) -> Iterator[nn.BatchNorm2d]:
        """See the base class."""
        for part in self._learning() if self.trainable else [self.net]:
            yield from self._norms(part)

    @staticmethod
    def _norms(part: nn.Module) -> Iterator[nn.BatchNorm2d]:
        return (module for module in part.modules() if isinstance(module, nn.BatchNorm2d))


def _bottleneck(block: Bottleneck, x: Tensor, last_relu: bool = False) -> Tensor:
    """Up to its last ReLU, or with it; ``x`` may be overwritten."""
    y = convolve(block.conv1, block.bn1, x, relu=True)
    y = convolve(block.conv2, block.bn2, y, relu=True)
    identity = x if block.downsample is None else convolve(block.downsample[0], block.downsample[1], x)
    return convolve(block.conv3, block.bn3, y, add=identity, relu=last_relu)


def _channels(stage: nn.Sequential) -> int:
    last = stage[-1]
    assert isinstance(last, Bottleneck)
    return last.conv3.out_channels


def _deepen_stem(net: torchvision.models.ResNet) -> None:
    def conv(in_size: int, out_size: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
        made = nn.Conv2d(in_size, out_size, kernel, stride, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
        return made

    net.conv1, net.bn1 = conv(3, 64, stride=2), nn.BatchNorm2d(64)
    net.conv2, net.bn2 = conv(64, 64), nn.BatchNorm2d(64)
    net.conv3, net.bn3 = conv(64, 128), nn.BatchNorm2d(128)
    first = net.layer1[0]
    first.conv1, first.downsample[0] = conv(128, 64, 1), conv(128, 256, 1)


def _dilate(stage: nn.Sequential, rate: int) -> None:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (rate, rate)
