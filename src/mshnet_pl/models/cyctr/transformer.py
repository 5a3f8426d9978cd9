"""CyCTR's transformer: query pixels among themselves, then with the supports', twice."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mshnet_pl.models.cyctr.attention import CycleAttention, DeformableAttention
from mshnet_pl.models.cyctr.sampling import Tokens

_LAYERS = 2
_DROPOUT = 0.1


class Transformer(nn.Module):
    """Two layers of self-attention, cycle-consistent attention, and a feed-forward network after each.

    Args:
        width: channels; 12 heads where they divide by it, otherwise 8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        heads = 12 if width % 12 == 0 else 8
        self.level = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, width)))
        self.among = nn.ModuleList([DeformableAttention(width, heads) for _ in range(_LAYERS)])
        self.across = nn.ModuleList([CycleAttention(width, heads) for _ in range(_LAYERS)])
        self.feed = nn.ModuleList([_FeedForward(width) for _ in range(2 * _LAYERS)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(4 * _LAYERS)])
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(
        self,
        x: Float[Tensor, "batch width h w"],
        padding: Bool[Tensor, "batch h w"],
        sample: Callable[[], Tokens],
    ) -> Float[Tensor, "batch width h w"]:
        """Query features to query features; ``sample`` gives every layer its support tokens."""
        grid = x.shape[2:]
        code = sine_code(padding, x.shape[1], x.dtype).flatten(2).transpose(1, 2) + self.level  # (B, pixels, width)
        q = x.flatten(2).transpose(1, 2)
        for i, (among, across) in enumerate(zip(self.among, self.across, strict=True)):
            first, second, third, fourth = self.norms[4 * i : 4 * i + 4]
            q = first(q + self.dropout(among(q, q + code, padding)))
            q = second(self.feed[2 * i](q))
            q = third(q + across(q, sample()))
            q = fourth(self.feed[2 * i + 1](q))
        return q.transpose(1, 2).unflatten(2, grid)


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(width, 3 * width, bias=False), nn.Linear(3 * width, width, bias=False)
        self.dropout = nn.Dropout(_DROPOUT)
        for part in (self.wide, self.narrow):
            nn.init.xavier_uniform_(part.weight)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.wide(x).relu())
        return x + self.dropout(self.narrow(inner))


def sine_code(padding: Bool[Tensor, "batch h w"], width: int, dtype: torch.dtype) -> Float[Tensor, "batch width h w"]:
    """Sines and cosines of a pixel's row, then of its column, both counted over what is not padded, on a circle."""
    half = width // 2
    exponents = 2 * torch.arange(half, device=padding.device, dtype=dtype).div(2, rounding_mode="floor") / half
    codes = []
    for axis in (1, 2):
        count = (~padding).cumsum(axis).to(dtype)
        last = count.select(axis, -1).unsqueeze(axis)
        angles = (count / (last + 1e-6) * (2 * math.pi))[..., None] / 10_000**exponents  # (B, h, w, half)
        codes.append(torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=4).flatten(3))
    return torch.cat(codes, dim=3).permute(0, 3, 1, 2)
