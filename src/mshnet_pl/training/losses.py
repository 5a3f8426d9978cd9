"""The loss of eq. 1."""

from functools import partial

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
    foreground_weight: float = 1.0,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Cross-entropy of the final logits plus the weighted sum of the intermediate ones (eq. 1) and of a method's own losses.

    The mask is resized by nearest neighbour: to the final logits' grid for the final loss, to half of it (block 2's grid)
    for the intermediate ones, whose logits are upsampled to that grid.

    Args:
        prediction: logits (B, 2, 2h, 2w), any number of intermediate ones, and any losses of the method's own.
        mask: (B, H, W) of 0, 1 and 255.
        inner_weight: weight of each intermediate loss: 1/3 in the paper, 0.3 in the authors' code.
        ignore_unknown: leave pixels labelled 255 out; by default they count as background.
        foreground_weight: what a pixel of the object counts in every cross-entropy, a weighted mean over pixels. With 1, the
            paper's, the network learns the likelier label of a pixel; IoU is largest with more foreground than that.

    Returns:
        The loss, and its parts, detached: the cross-entropy ``final``, all others by their names.
    """
    height, width = prediction.logits.shape[2:]
    one = partial(_cross_entropy, mask=mask, ignore_unknown=ignore_unknown, foreground_weight=foreground_weight)
    final = one(prediction.logits)
    inner = {}
    for name, logits in prediction.inner.items():
        upsampled = interpolate(logits, (height // 2, width // 2), mode="bilinear", align_corners=True)
        inner[name] = one(upsampled)
    loss = final + inner_weight * torch.stack([*inner.values()]).sum() if inner else final
    own = {name: value for name, (_, value) in prediction.losses.items()}
    for weight, value in prediction.losses.values():
        loss = loss + weight * value
    return loss, {name: part.detach() for name, part in {"final": final, **inner, **own}.items()}


def _cross_entropy(logits: Tensor, mask: Tensor, ignore_unknown: bool, foreground_weight: float) -> Tensor:
    target = interpolate(mask[:, None], logits.shape[2:], mode="nearest")[:, 0].long()
    if not ignore_unknown:
        target = target * (target != UNKNOWN)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weight = None if foreground_weight == 1 else logits.new_tensor([1, foreground_weight])
    return cross_entropy(logits, target, weight, ignore_index=UNKNOWN)
