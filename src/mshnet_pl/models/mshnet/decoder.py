"""The top-down pyramid over the three merged blocks, the decoder and the heads."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.models.layers import convolve_projected, convolve_upsampled
from mshnet_pl.models.mshnet.merging import DROPOUT, cbr


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
        levels: list[tuple[Tensor, nn.Conv2d | None]] = []
        if self._deep:
            deep = _first_joined(self.merge43, [(blocks[block], self._projection(block)) for block in self._deep])
            upsampled = convolve_upsampled(self.from43[0], deep, grid)
            levels.append((self.from43[1:](upsampled), None))
        if 2 in blocks:
            levels.append((blocks[2], self._projection(2)))
        return _first_joined(self.merge432, levels)

    def _projection(self, block: int) -> nn.Conv2d:
        projection = self.project[f"block{block}"]
        assert isinstance(projection, nn.Conv2d)
        return projection


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
        double = 2 * merged.shape[2], 2 * merged.shape[3]
        logits: Tensor = self.head[1:](convolve_upsampled(self.head[0], merged, double))
        return logits


def _first_joined(layers: nn.Sequential, parts: Sequence[tuple[Tensor, nn.Conv2d | None]]) -> Tensor:
    """``layers``, which begin with a ``cbr``, on the concatenation of projected parts."""
    first, *rest = layers
    x = first[1:](convolve_projected(first[0], parts))  # type: ignore[index]  # a Sequential
    for layer in rest:
        x = layer(x)
    return x
