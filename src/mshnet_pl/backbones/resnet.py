"""ResNet-50 and ResNet-101 (He et al., CVPR 2016) as torchvision builds them."""

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor
from torchvision.models.resnet import Bottleneck

from mshnet_pl.backbones.base import AbstractBackbone, BlockSpec, Maps
from mshnet_pl.backbones.fused_conv_bn import convolve
from mshnet_pl.backbones.weights import load_named


class ResNet(AbstractBackbone):
    """Every bottleneck's output of ``layer2..4`` before its last ReLU.

    =====  ===============  ========  ======
    block  maps (50 / 101)  channels  stride
    =====  ===============  ========  ======
    2      4                512       8
    3      6 / 23           1024      16
    4      3                2048      32
    =====  ===============  ========  ======

    Args:
        depth: 50 or 101.
        weights: ``imagenet`` (torchvision's IMAGENET1K_V1), ``random``, or the path of a state dict.
        stride_in_1x1: put the stride of a down-sampling bottleneck on its first 1 x 1 convolution, as the original
            ResNet has it, instead of on the 3 x 3 (torchvision, "v1.5"). Files of both kinds have the same names and
            shapes, and the wrong choice costs accuracy without any error.
        trainable: learn the parameters too; batch statistics stay as loaded.

    Raises:
        ValueError: another depth, or weights that do not fit.
    """

    def __init__(
        self, depth: int = 50, weights: str = "imagenet", stride_in_1x1: bool = False, trainable: bool = False
    ) -> None:
        super().__init__()
        if depth not in (50, 101):
            raise ValueError(f"depth={depth}: a ResNet here has 50 or 101 layers")
        self.net = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        load_named(self.net, weights, f"ResNet{depth}_Weights.IMAGENET1K_V1", classifier="fc.")
        self.net.fc = torch.nn.Identity()
        stages = (self.net.layer2, self.net.layer3, self.net.layer4)
        if stride_in_1x1:
            for stage in stages:
                stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
        self.blocks = tuple(
            BlockSpec(layers=len(stage), channels=stage[0].bn3.num_features, stride=8 * 2**i)
            for i, stage in enumerate(stages)
        )
        self.freeze(trainable)

    def maps(self, images: Float[Tensor, "n 3 height width"]) -> Maps:
        """See the class."""
        net = self.net
        x = net.maxpool(convolve(net.conv1, net.bn1, images).relu_())
        for bottleneck in net.layer1:
            x = _before_last_relu(bottleneck, x).relu_()
        blocks = []
        for stage in (net.layer2, net.layer3, net.layer4):
            maps = []
            for bottleneck in stage:
                maps.append(_before_last_relu(bottleneck, x))
                x = maps[-1].relu()
            blocks.append(maps)
        return blocks


def _before_last_relu(block: Bottleneck, x: Tensor) -> Tensor:
    y = convolve(block.conv1, block.bn1, x).relu_()
    y = convolve(block.conv2, block.bn2, y).relu_()
    y = convolve(block.conv3, block.bn3, y)
    y += x if block.downsample is None else convolve(block.downsample[0], block.downsample[1], x)
    return y
