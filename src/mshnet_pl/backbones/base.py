"""What a backbone promises: every feature map of its last three blocks, frozen unless it is asked to learn."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.fused_conv_bn import fuses

Features = tuple[Float[Tensor, "_ _ _ _ _"], ...]
"""One (N, L, d, h, w) tensor per block, finest block (block 2) first: the L maps of a block share one size.

In memory the channels d of a pixel lie side by side, so that similarities read whole pixels.
"""

Maps = Sequence[Sequence[Float[Tensor, "_ _ _ _"]]]
"""The L maps (N, d, h, w) of every block."""


@dataclass(frozen=True)
class BlockSpec:
    """The shape of one block's features: ``layers`` maps of ``channels`` channels, ``stride`` pixels apart."""

    layers: int
    channels: int
    stride: int


class AbstractBackbone(nn.Module, ABC):
    """A feature extractor, frozen by default.

    Frozen, its parameters never require gradients; ``trainable``, they do, and it runs with a graph wherever gradients are
    enabled. Either way it stays in eval mode whatever its parents do, so batch statistics cannot drift, unless it has
    ``batch_statistics``.
    """

    blocks: tuple[BlockSpec, ...]
    """Block 2, block 3, block 4: finest first."""
    trainable: bool = False
    """Whether training changes its parameters, so that features of an image differ from step to step."""
    batch_statistics: bool = False
    """Whether its norms use the batch's statistics in training, and update the running ones."""
    any_size: ClassVar[bool] = True
    """Whether one exported graph serves images of every size: not where the padding follows from the size."""

    convolutions_alone: ClassVar[bool] = False
    """Whether convolutions alone mix values: in bf16 with AMX an image's bits are then the same in any batch."""

    @abstractmethod
    def maps(self, images: Float[Tensor, "n 3 height width"]) -> Maps:
        """Normalised images (N, 3, H, W) to the maps of every block."""

    def features(self, images: Float[Tensor, "n 3 height width"]) -> Features:
        """``maps`` with those of a block stacked: one (N, L, d, h, w) tensor per block."""
        return tuple(torch.stack([_pixels(x) for x in block], dim=1).permute(0, 1, 4, 2, 3) for block in self.maps(images))

    def forward(self, images: Float[Tensor, "n 3 height width"]) -> Features:
        """``features``, without a graph unless ``trainable``.

        Without one, on a CPU, the images pass one by one: that costs no time, needs less memory, and makes an image's
        features the same to the last bit whatever else is in the batch. In bf16 with AMX four at once are a fifth quicker,
        and the bits the same.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        learning = self.trainable and torch.is_grad_enabled()
        whole = torch.compiler.is_compiling() or learning or self.training or images.device.type != "cpu"
        with torch.set_grad_enabled(learning):
            if whole or len(images) == 1:  # in this order: a trace must not ask for the number of images
                return self.features(images)
            blocks: list[Tensor] = []
            step = 4 if self.convolutions_alone and fuses(images) and torch.cpu._is_amx_tile_supported() else 1
            for n in range(0, len(images), step):
                maps = self.maps(images[n : n + step])
                if not blocks:
                    blocks = [_empty(len(images), block) for block in maps]
                for features, block in zip(blocks, maps, strict=True):
                    for layer, x in enumerate(block):
                        features[n : n + step, layer] = x
            return tuple(blocks)

    def freeze(self, trainable: bool = False) -> None:
        """Call at the end of ``__init__``: eval mode, the faster memory layout, and no gradients unless ``trainable``."""
        self.trainable = trainable
        self.to(memory_format=torch.channels_last)
        self.requires_grad_(trainable)
        self.eval()

    def train(self, mode: bool = True) -> "AbstractBackbone":
        """Stays in eval mode, but for norms that use batch statistics in training."""
        super().train(False)
        self.training = mode and self.batch_statistics
        for norm in self.moving_norms() if self.training else ():
            norm.train()
        return self

    def moving_norms(self) -> Iterable[nn.Module]:
        """The norms that ``batch_statistics`` concerns."""
        return ()


def _pixels(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _empty(images: int, block: Sequence[Tensor]) -> Tensor:
    """Room for the maps of so many images, (N, L, d, h, w)."""
    _, channels, height, width = block[0].shape
    return block[0].new_empty(images, len(block), height, width, channels).permute(0, 1, 4, 2, 3)
