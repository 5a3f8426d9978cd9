"""VGG-16 (Simonyan and Zisserman, ICLR 2015) as torchvision builds it."""

import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone, BlockSpec, Maps
from mshnet_pl.backbones.weights import load_named

_TAPS = ((17, 19, 21), (24, 26, 28), (30,))
"""Indices in torchvision's ``vgg16().features``: conv4_1..3 and conv5_1..3 before their ReLU, and pool5."""


class VGG16(AbstractBackbone):
    """The convolutions of stages 4 and 5 before their ReLU, and the last pooling: the maps that HSNet uses.

    =====  ==========  ========  ======
    block  maps        channels  stride
    =====  ==========  ========  ======
    2      conv4_1..3  512       8
    3      conv5_1..3  512       16
    4      pool5       512       32
    =====  ==========  ========  ======

    Args:
        weights: ``imagenet`` (torchvision's IMAGENET1K_V1), ``random``, or the path of a state dict.
        trainable: learn the parameters too; batch statistics stay as loaded.
        dilated: stride 8 to the end, as PANet has it: poolings of 3 x 3, the fourth of stride 1, stage 5 dilated by 2, and
            no block 4.

    Raises:
        ValueError: weights that do not fit.
    """

    convolutions_alone = True

    def __init__(self, weights: str = "imagenet", trainable: bool = False, dilated: bool = False) -> None:
        super().__init__()
        net = torchvision.models.vgg16(weights=None)
        load_named(net, weights, "VGG16_Weights.IMAGENET1K_V1", classifier="classifier.")
        self.layers = net.features
        for layer in self.layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # the maps before it are kept
        self._taps = _TAPS[:2] if dilated else _TAPS
        if dilated:
            self.layers = _dilated(self.layers)
        self.blocks = tuple(
            BlockSpec(layers=len(taps), channels=512, stride=8 if dilated else 8 * 2**i) for i, taps in enumerate(self._taps)
        )
        self.freeze(trainable)

    def maps(self, images: Float[Tensor, "n 3 height width"]) -> Maps:
        """See the class."""
        blocks: list[list[Tensor]] = [[] for _ in self._taps]
        x = images
        for i, layer in enumerate(self.layers):
            x = layer(x)
            for maps, taps in zip(blocks, self._taps, strict=True):
                if i in taps:
                    maps.append(x)
        return blocks


def _dilated(layers: nn.Sequential) -> nn.Sequential:
    """See ``VGG16``; the last ReLU and pooling are left out."""
    pools = iter((2, 2, 2, 1))
    for i, layer in enumerate(layers[:-2]):
        if isinstance(layer, nn.MaxPool2d):
            layers[i] = nn.MaxPool2d(3, next(pools), padding=1)
        elif i in _TAPS[1] and isinstance(layer, nn.Conv2d):
            layer.dilation = layer.padding = (2, 2)
    return layers[:-2]
