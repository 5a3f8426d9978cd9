"""The top-down pyramid over the three merged blocks, the decoder and the heads."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.models.layers import JoinThen, ReLU, UpsampleThen
from mshnet_pl.models.mshnet.conv_norm_relu import cbr
from mshnet_pl.models.mshnet.merging import DROPOUT


class Pyramid(nn.Module):
    """Block 4 into block 3, and the two of them into block 2.

    Args:
        width: base width w (128 in the paper): blocks have 2 w channels, the pyramid 4 w.
        blocks: which of the blocks 2, 3 and 4 there are; a missing one's layers are left out.
    """

    def __init__(self, width: int, blocks: Sequence[int] = (2, 3, 4)) -> None:
        super().__init__()
        narrow, wide = 2 * width, 4 * width
        self._coarse = [block for block in (4, 3) if block in blocks]
        self._fine = 2 in blocks
        self.project = nn.ModuleDict({f"block{block}": nn.Conv2d(narrow, wide, 1) for block in self._coarse})
        if self._coarse:
            joined = JoinThen(*cbr(len(self._coarse) * wide, wide, 3))
            self.merge43 = nn.Sequential(joined, cbr(wide, wide, 3), nn.Dropout2d(DROPOUT))
            self.from43 = UpsampleThen(*cbr(wide, wide, 3))
        if self._fine:
            self.project["block2"] = nn.Conv2d(narrow, wide, 1)
        joined = JoinThen(*cbr((bool(self._coarse) + self._fine) * wide, wide, 3))
        self.merge432 = nn.Sequential(joined, cbr(wide, wide, 3))

    def forward(
        self, blocks: Mapping[int, Float[Tensor, "batch narrow _ _"]], grid: Sequence[int]
    ) -> Float[Tensor, "batch wide h2 w2"]:
        """Merged maps by block to block 2's ``grid``; block 4 comes upsampled to block 3's grid where there is one."""
        levels: list[tuple[Tensor, nn.Module | None]] = []
        if self._coarse:
            x = self.merge43([(blocks[block], self.project[f"block{block}"]) for block in self._coarse])  # (B, 4 w, h3, w3)
            x = self.from43(x, grid)  # (B, 4 w, h2, w2)
            levels.append((x, None))
        if self._fine:
            levels.append((blocks[2], self.project["block2"]))
        merged: Tensor = self.merge432(levels)  # (B, 4 w, h2, w2)
        return merged


class Decoder(nn.Module):
    """(B, 4 w, h, w) to logits (B, 2, 2h, 2w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = 2 * width
        self.reduce = cbr(4 * width, narrow, 1)
        self.refine = cbr(narrow, narrow, 3)
        self.merge = cbr(narrow, narrow, 3)
        self.head = UpsampleThen(*head(narrow))

    def forward(self, x: Float[Tensor, "batch wide h w"]) -> Float[Tensor, "batch 2 h2 w2"]:
        """See the class."""
        x = self.reduce(x)  # (B, 2 w, h, w)
        x = self.merge(x + self.refine(x))
        logits: Tensor = self.head(x, (2 * x.shape[2], 2 * x.shape[3]))  # (B, 2, 2h, 2w)
        return logits


def head(in_size: int) -> nn.Sequential:
    """(B, in_size, h, w) to (B, 2, h, w) logits of background and foreground."""
    half = in_size // 2
    return nn.Sequential(nn.Conv2d(in_size, half, 3, padding=1, bias=False), ReLU(), nn.Conv2d(half, 2, 3, padding=1))
