"""The threshold that would have served the supports best, had each been the query of the others."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

_MOST = 3.0
"""Thresholds of margins go from -3 to 3, foreground probabilities of 5% to 95%, in steps of 0.2."""
_SHARPNESS = 0.03
"""Of IoU: a threshold that is so much worse than the best counts 1 / e of it."""
LEAST = 3
"""Supports that choose a threshold: with fewer, each would be predicted by one or none."""
_OTHERS = 4
"""Supports at most that predict one: more of them take longer and choose no better."""


def others(place: int, shots: int) -> list[int]:
    """The supports that predict the one at ``place``: those after it, from the first on again after the last."""
    return [(place + 1 + i) % shots for i in range(min(shots - 1, _OTHERS))]


def best_threshold(
    margins: Float[Tensor, "batch shots h w"], masks: Float[Tensor, "batch shots height width"]
) -> Float[Tensor, "batch"]:
    """Of the margins by which a pixel's foreground logit must exceed the background's.

    Thresholds are averaged with weights ``exp(IoU / 0.03)``, where IoU is the mean over the supports. With K supports the
    result counts ``(K - 2) / (K + 1)``, and the network's own threshold, 0, the rest: it stands for three supports.

    Args:
        margins: of every support, as the others predict it.
        masks: 1 on the object.
    """
    shots, grid = margins.shape[1], (margins.shape[2], margins.shape[3])
    shares = adaptive_avg_pool2d(masks, grid)
    thresholds = torch.linspace(-_MOST, _MOST, 31, device=margins.device)
    ious = torch.stack([_iou(margins > threshold, shares) for threshold in thresholds])  # (31, B)
    weights = (ious / _SHARPNESS).softmax(dim=0)
    return (shots - 2) / (shots + 1) * (thresholds[:, None] * weights).sum(0)


def _iou(found: Tensor, shares: Tensor) -> Float[Tensor, "batch"]:
    """The mean over supports; a pixel that the object covers in part counts in part."""
    both = (found * shares).sum((2, 3))
    either = found.sum((2, 3)) + shares.sum((2, 3)) - both
    return (both / either.clamp(min=1e-6)).mean(1)
