"""The symmetric merging block (SMB, section 4.3): merges one block's similarity maps over layers, shots, similarities."""

from collections.abc import Mapping
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.models.mshnet.conv_norm_relu import ConvNormReLU, cbr

DROPOUT = 0.2


class AtrousShotConv(nn.Module):
    """Three parallel convolutions of growing reach, merged: (B, w, h, w) to the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([cbr(width, width, 1), cbr(width, width, 3, 2), cbr(width, width, 3, 4)])
        self.merge = nn.Sequential(cbr(3 * width, width, 3), nn.Dropout2d(DROPOUT))

    def forward(self, x: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width h w"]:
        """See the class."""
        merged: Tensor = self.merge(torch.cat([branch(x) for branch in self.branches], dim=1))
        return merged


class SimilarityPath(nn.Module):
    """One similarity's way through the block: Block-Conv on every shot, the mean over shots, Shot-Conv.

    Args:
        layers: how many similarity maps a shot has.
        width: channels of the path.
        atrous: Shot-Conv with dilated branches instead of one 3 x 3 convolution.
    """

    def __init__(self, layers: int, width: int, atrous: bool) -> None:
        super().__init__()
        self.block_conv = nn.Sequential(cbr(layers, width, 1), cbr(width, width, 3))
        self.shot_conv = AtrousShotConv(width) if atrous else cbr(width, width, 3)

    def forward(self, maps: Float[Tensor, "batch shots layers h w"]) -> Float[Tensor, "batch width h w"]:
        """(B, K, L, h, w) similarity maps to (B, width, h, w), whatever K is."""
        on_cpu = maps.device.type == "cpu" and not torch.compiler.is_compiling()
        x = self._block_conv(maps, on_cpu)  # (B, K, h, w, width): a mean wants the memory's order
        x = x.squeeze(1) if on_cpu and maps.shape[1] == 1 else x.mean(1)
        x = x.permute(0, 3, 1, 2)  # (B, width, h, w)
        merged: Tensor = self.shot_conv(x)
        return merged

    def _block_conv(self, maps: Tensor, on_cpu: bool) -> Float[Tensor, "batch shots h w width"]:
        """In training, every shot is normalised with its own statistics."""
        if self.training and on_cpu:  # one after the other: the quickest, no layout changes
            of_shots = [self.block_conv(shot).permute(0, 2, 3, 1) for shot in maps.unbind(1)]
            return torch.stack(of_shots, dim=1) if len(of_shots) > 1 else of_shots[0][:, None]
        x = maps.flatten(0, 1)
        for layers in self.block_conv:
            assert isinstance(layers, ConvNormReLU)
            x = layers.every_shot(x, maps.shape[1]) if self.training else layers(x)
        return x.unflatten(0, maps.shape[:2]).permute(0, 1, 3, 4, 2)


class ChannelGate(nn.Module):
    """The channel half of CBAM (Woo et al., ECCV 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(inplace=True), nn.Linear(width // 4, width))

    def forward(self, x: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width h w"]:
        """Scales every channel by what its mean and its maximum say."""
        gate = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * gate.sigmoid()[:, :, None, None]


class SymmetricMergingBlock(nn.Module):
    """Merge-Conv over the paths of all similarities.

    Args:
        layers: how many similarity maps each similarity gives for a shot.
        paths: name to (``wide``, ``atrous``) of each similarity.
        width: base width w (128 in the paper); the block's output has 2 w channels.
        channel_gate: gate the merged channels.
    """

    def __init__(self, layers: int, paths: Mapping[str, tuple[bool, bool]], width: int, channel_gate: bool = True) -> None:
        super().__init__()
        widths = {name: width * (2 if wide else 1) for name, (wide, _) in paths.items()}
        out = 2 * width
        self.paths = nn.ModuleDict(
            {name: SimilarityPath(layers, widths[name], atrous) for name, (_, atrous) in paths.items()}
        )
        self.project = nn.ModuleDict({name: nn.Conv2d(widths[name], out, 1) for name in paths})
        gate = ChannelGate(out) if channel_gate else nn.Identity()
        self.merge = nn.Sequential(cbr(out, out, 3), gate, cbr(out, out, 3), nn.Dropout2d(DROPOUT))

    def forward(self, maps: Mapping[str, Float[Tensor, "batch _ _ h w"]]) -> Float[Tensor, "batch _ h w"]:
        """Similarity maps (B, K, L, h, w) by name to (B, 2 w, h, w)."""
        projected = [self.project[name](path(maps[name])) for name, path in self.paths.items()]  # (B, 2 w, h, w) each
        merged: Tensor = self.merge(reduce(torch.add, projected))
        return merged
