"""The loss of eq. 1."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from mshnet_pl.episode import UNKNOWN, Prediction


def episode_loss(
    prediction: Prediction,
    mask: UInt8[Tensor, "batch height width"],
    inner_weight: float = 1 / 3,
    ignore_unknown: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, "parts"]]:
    """Cross-entropy of the final logits plus the weighted sum of the intermediate ones (eq. 1).

    The mask is resized by nearest neighbour: to the final logits' grid for the final loss, to half of it (block 2's grid)
    for the intermediate ones, whose logits are upsampled to that grid.

    Args:
        prediction: logits (B, 2, 2h, 2w) and any number of intermediate ones.
        mask: (B, H, W) of 0, 1 and 255.
        inner_weight: weight of each intermediate loss: 1/3 in the paper, 0.3 in the authors' code.
        ignore_unknown: leave pixels labelled 255 out; by default they count as background.

    Returns:
        The loss, and its parts: the final cross-entropy, then the intermediate ones in the prediction's order.
    """
    height, width = prediction.logits.shape[2:]
    parts = [_cross_entropy(prediction.logits, mask, ignore_unknown)]
    for logits in prediction.inner:
        upsampled = interpolate(logits, (height // 2, width // 2), mode="bilinear", align_corners=True)
        parts.append(_cross_entropy(upsampled, mask, ignore_unknown))
    losses = torch.stack(parts)
    return losses[0] + inner_weight * losses[1:].sum(), losses.detach()


def _cross_entropy(logits: Tensor, mask: Tensor, ignore_unknown: bool) -> Tensor:
    target = interpolate(mask[:, None], logits.shape[2:], mode="nearest")[:, 0].long()
    if not ignore_unknown:
        target = target * (target != UNKNOWN)
    return cross_entropy(logits.float() if logits.dtype != torch.float64 else logits, target, ignore_index=UNKNOWN)
