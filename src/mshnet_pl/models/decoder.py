"""The top-down pyramid over the three merged blocks, the decoder and the heads."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mshnet_pl.models.smb import DROPOUT, cbr


def resize(x: Float[Tensor, "n c h w"], size: Sequence[int]) -> Float[Tensor, "n c h2 w2"]:
    """Bilinear interpolation with aligned corners, the only kind the network uses."""
    return interpolate(x, (size[0], size[1]), mode="bilinear", align_corners=True)


def head(in_size: int) -> nn.Sequential:
    """(B, in_size, h, w) to (B, 2, h, w) logits of background and foreground."""
    half = in_size // 2
    return nn.Sequential(nn.Conv2d(in_size, half, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(half, 2, 3, padding=1))


class Pyramid(nn.Module):
    """Block 4 into block 3, and the two of them into block 2.

    Args:
        width: base width w (128 in the paper): blocks have 2 w channels, the pyramid 4 w.
        blocks: which of the blocks 2, 3 and 4 there are; a missing one's layers are left out.
    """

    def __init__(self, width: int, blocks: Sequence[int] = (2, 3, 4)) -> None:
        super().__init__()
        narrow, wide = 2 * width, 4 * width
        self._deep = [block for block in (4, 3) if block in blocks]
        self.project = nn.ModuleDict({f"block{block}": nn.Conv2d(narrow, wide, 1) for block in self._deep})
        if self._deep:
            self.merge43 = nn.Sequential(cbr(len(self._deep) * wide, wide, 3), cbr(wide, wide, 3), nn.Dropout2d(DROPOUT))
            self.from43 = cbr(wide, wide, 3)
        if 2 in blocks:
            self.project["block2"] = nn.Conv2d(narrow, wide, 1)
        merged = bool(self._deep) + (2 in blocks)
        self.merge432 = nn.Sequential(cbr(merged * wide, wide, 3), cbr(wide, wide, 3))

    def forward(
        self, blocks: Mapping[int, Float[Tensor, "batch narrow _ _"]], grid: Sequence[int]
    ) -> Float[Tensor, "batch wide h2 w2"]:
        """Merged maps by block to block 2's ``grid``; block 4 comes upsampled to block 3's grid where there is one."""
        levels = []
        if self._deep:
            x = self.merge43(torch.cat([self.project[f"block{block}"](blocks[block]) for block in self._deep], dim=1))
            levels.append(self.from43(resize(x, grid)))
        if 2 in blocks:
            levels.append(self.project["block2"](blocks[2]))
        merged: Tensor = self.merge432(torch.cat(levels, dim=1))
        return merged


class Decoder(nn.Module):
    """(B, 4 w, h, w) to logits (B, 2, 2h, 2w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = 2 * width
        self.reduce = cbr(4 * width, narrow, 1)
        self.refine = cbr(narrow, narrow, 3)
        self.merge = cbr(narrow, narrow, 3)
        self.head = head(narrow)

    def forward(self, x: Float[Tensor, "batch wide h w"]) -> Float[Tensor, "batch 2 h2 w2"]:
        """See the class."""
        reduced = self.reduce(x)
        merged = self.merge(reduced + self.refine(reduced))
        logits: Tensor = self.head(resize(merged, (2 * merged.shape[2], 2 * merged.shape[3])))
        return logits
