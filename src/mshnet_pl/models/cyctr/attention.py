"""CyCTR's two kinds of attention: deformable among the query's pixels, cycle-consistent from them to the supports'."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from mshnet_pl.models.cyctr.sampling import Tokens

_POINTS = 9
_PENALTY = -10_000.0
_DROPOUT = 0.1


class DeformableAttention(nn.Module):
    """Every pixel reads the map at nine places of each head's, which it chooses (Zhu et al., ICLR 2021), on one level.

    In training a tenth of the pixels cannot be read.

    Args:
        width: channels.
        heads: that share them out.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.offsets = nn.Linear(width, heads * _POINTS * 2)
        self.weights = nn.Linear(width, heads * _POINTS)
        self.values = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.forget, self.dropout = nn.Dropout(_DROPOUT), nn.Dropout(_DROPOUT)
        for part in (self.offsets, self.weights):
            nn.init.zeros_(part.weight)
        angles = torch.arange(heads) * (2 * math.pi / heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=1)
        directions = directions / directions.abs().amax(1, keepdim=True)  # the first heads' compass, on a square
        places = directions[:, None] * torch.arange(1, _POINTS + 1)[:, None]  # (heads, points, 2)
        with torch.no_grad():
            self.offsets.bias.copy_(places.flatten())
        nn.init.zeros_(self.weights.bias)
        for part in (self.values, self.output):
            nn.init.xavier_uniform_(part.weight)

    def forward(
        self,
        x: Float[Tensor, "batch pixels width"],
        placed: Float[Tensor, "batch pixels width"],
        padding: Bool[Tensor, "batch h w"],
    ) -> Float[Tensor, "batch pixels width"]:
        """Pixels, and the same with their places' code, to what they read; ``padding`` is read as 0."""
        batch, height, width = padding.shape
        readable = ~padding.flatten(1) & (self.forget(torch.ones_like(x[..., 0])) > 0)
        values = (self.values(x) * readable[..., None]).transpose(1, 2)
        maps = values.reshape(batch * self.heads, -1, height, width)
        offsets = self.offsets(placed).view(batch, -1, self.heads, _POINTS, 2).transpose(1, 2).flatten(0, 1)
        weights = self.weights(placed).view(batch, -1, self.heads, _POINTS).transpose(1, 2).flatten(0, 1)
        y, x_ = (torch.arange(n, device=x.device, dtype=x.dtype) for n in (height, width))
        own = torch.stack(torch.meshgrid(x_, y, indexing="xy"), dim=2).view(-1, 1, 2)  # (pixels, 1, 2): column, row
        places = 2 * (own + 0.5 + offsets) / x.new_tensor([width, height]) - 1
        read = grid_sample(maps, places.to(maps.dtype), align_corners=False)  # (B heads, d, pixels, points)
        mixed = (read * self.dropout(weights.softmax(2))[:, None]).sum(3)  # (B heads, d, pixels)
        output: Tensor = self.output(mixed.reshape(batch, -1, height * width).transpose(1, 2))
        return output


class CycleAttention(nn.Module):
    """From the query's pixels to support tokens that find back to their own kind.

    A token goes to the query's pixel that attends to it most, and back to the token that this pixel attends to most; where
    one is object and the other is not, the token is all but ignored. In training a tenth of those is attended to.

    Args:
        width: channels.
        heads: that share them out.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.forget, self.dropout, self.output_dropout = (nn.Dropout(_DROPOUT) for _ in range(3))
        for part in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(part.weight)

    def forward(self, x: Float[Tensor, "batch pixels width"], tokens: Tokens) -> Float[Tensor, "batch pixels width"]:
        """See the class; tokens of batch 1 serve all queries."""
        queries, keys, values = (
            part(of).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part, of in ((self.query, x), (self.key, tokens.values), (self.value, tokens.values))
        )  # (B, heads, pixels or tokens, d)
        products = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])  # (B, heads, pixels, tokens)
        back = products.argmax(3).gather(2, products.argmax(2))  # (B, heads, tokens): where a token's pixel leads
        objects = tokens.objects[:, None].expand(back.shape)
        inconsistent = (objects != objects.gather(2, back)) & (self.forget(torch.ones_like(products[:, :, 0])) > 0)
        ignored = inconsistent | tokens.padding[:, None]
        shares = (products + _PENALTY * ignored[:, :, None].to(products.dtype)).softmax(3)
        mixed = (self.dropout(shares) @ values).transpose(1, 2).flatten(2)
        output: Tensor = self.output_dropout(self.output(mixed))
        return output
