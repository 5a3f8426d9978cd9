"""Whether an image shows a class at all."""

import torch
from jaxtyping import Float
from torch import Tensor

_SHARE = 0.01
"""Of an image: so many of its pixels, the likeliest ones, tell presence."""
MIN_PRESENCE = 0.82
"""From which on a class counts as found: chosen on ten base classes of PASCAL-5i with the default network."""


def presence(margin: Float[Tensor, "height width"]) -> float:
    """The mean foreground probability of the likeliest hundredth of an image's pixels, from 0 to 1.

    Args:
        margin: by how much the class's foreground logit exceeds the background's.
    """
    count = max(round(_SHARE * margin.numel()), 1)
    return float(torch.sigmoid(margin.flatten().topk(count).values.float()).mean())
