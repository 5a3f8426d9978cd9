"""Which tokens of the supports CyCTR's transformer sees: so many of the object and of the rest, drawn at random."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from mshnet_pl.options import UNKNOWN

_TOKENS = 300
"""Of the object, and of the rest, for every shot."""
_RANGES = {True: (0.6, 4.0), False: (0.6, 1.4)}
"""Of their number's factor in training, with one shot and with several."""


class Tokens(NamedTuple):
    """Support pixels as the transformer sees them."""

    values: Float[Tensor, "batch tokens channels"]
    objects: Bool[Tensor, "batch tokens"]
    """Whether a token lies on the object."""
    padding: Bool[Tensor, "batch tokens"]
    """Whether nothing is known of it."""


def on_grid(mask: Float[Tensor, "batch shots height width"], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Objects and padding (B, K h w), by nearest neighbour; a support without object, or all object, is given some.

    Without: the four cells in the middle; all object: the four corners are taken away.
    """
    height, width = size
    small = interpolate(mask, (height, width), mode="nearest")
    objects = small == 1
    none, full = ~objects.flatten(2).any(2), objects.flatten(2).all(2)
    middle, corners = torch.zeros_like(objects[:1, :1]), torch.zeros_like(objects[:1, :1])
    middle[..., height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] = True
    corners[..., :: height - 1, :: width - 1] = True
    objects = (objects | (middle & none[..., None, None])) & ~(corners & full[..., None, None])
    return objects.flatten(1), (small == UNKNOWN).flatten(1)


class Sampler:
    """Draws tokens of every episode.

    Args:
        shots: supports of an episode.
        random: a generator for every episode.
        mixed_masks: read whether a drawn token lies on the object where the published code reads it: at the token's
            number among the object's tokens, or among the others, instead of among all. The masks of drawn tokens are then
            other tokens'.
    """

    def __init__(self, shots: int, random: Sequence[torch.Generator], mixed_masks: bool = False) -> None:
        self._shots, self._random, self._mixed = shots, random, mixed_masks

    def scale(self, low: float, high: float) -> float:
        """The factor of the number of tokens in training, one for a batch."""
        return low + (high - low) * float(torch.rand((), generator=self._random[0], dtype=torch.float64))

    def permutation(self, n: int, random: torch.Generator) -> Tensor:
        """Of n numbers."""
        return torch.randperm(n, generator=random)

    def __call__(self, tokens: Tokens, training: bool) -> Tokens:
        """The drawn tokens, as many for every episode."""
        factor = self.scale(*_RANGES[self._shots == 1]) if training else 1.0
        wanted = int(_TOKENS * self._shots * factor)
        drawn = [
            self._draw(Tokens(*of_one), wanted, g) for of_one, g in zip(zip(*tokens, strict=True), self._random, strict=True)
        ]
        return Tokens(*(torch.stack(part) for part in zip(*drawn, strict=True)))

    def _draw(self, tokens: Tokens, wanted: int, random: torch.Generator) -> Tokens:
        inside, outside = (side.nonzero()[:, 0] for side in (tokens.objects, ~tokens.objects))
        if len(inside) < wanted:
            parts = [(inside, None), (outside, self.permutation(len(outside), random)[: 2 * wanted - len(inside)])]
        elif len(outside) < wanted:
            parts = [(inside, self.permutation(len(inside), random)[: 2 * wanted - len(outside)]), (outside, None)]
        else:
            parts = [(side, self.permutation(len(side), random)[:wanted]) for side in (inside, outside)]
        chosen = torch.cat([side if some is None else side[some.to(side.device)] for side, some in parts])
        masks = chosen
        if self._mixed:
            masks = torch.cat([side if some is None else some.to(side.device) for side, some in parts])
        return Tokens(tokens.values[chosen], tokens.objects[masks], tokens.padding[masks])
