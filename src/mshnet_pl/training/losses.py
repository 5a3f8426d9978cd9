"""The loss of eq. 1, and the Dice loss in place of its cross-entropies."""

from functools import partial

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from mshnet_pl.episode import Prediction
from mshnet_pl.options import UNKNOWN, Criterion, LossGrid

_EPS = 1e-8


def episode_loss(
    prediction: Prediction,
    mask: UInt8[Tensor, "batch height width"],
    inner_weight: float = 1 / 3,
    ignore_unknown: bool = False,
    foreground_weight: float = 1.0,
    grid: LossGrid = LossGrid.logits,
    criterion: Criterion = Criterion.cross_entropy,
    class_id: Int64[Tensor, "batch"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Cross-entropy of the final logits plus the weighted sum of the intermediate ones (eq. 1) and of a method's own losses.

    The mask is resized by nearest neighbour: to the final logits' grid for the final loss, to half of it (block 2's grid)
    for the intermediate ones, whose logits are upsampled to that grid. With ``grid=image`` all logits are upsampled to the
    mask's size instead, as the method upsamples its predictions.

    Args:
        prediction: logits (B, 2, 2h, 2w), any number of intermediate ones, and any losses of the method's own.
        mask: (B, H, W) of 0, 1 and 255.
        inner_weight: weight of each intermediate loss: 1/3 in the paper, 0.3 in the authors' code.
        ignore_unknown: leave pixels labelled 255 out; by default they count as background.
        foreground_weight: what a pixel of the object counts in every cross-entropy, a weighted mean over pixels. With 1, the
            paper's, the network learns the likelier label of a pixel; IoU is largest with more foreground than that.
        grid: where logits and mask meet.
        criterion: ``dice`` in place of the cross-entropy of two classes.
        class_id: of the episodes, for methods whose further supervision tells classes apart.

    Returns:
        The loss, and its parts, detached: the cross-entropy ``final``, all others by their names.
    """
    if not ignore_unknown:
        mask = mask * (mask != UNKNOWN)
    one = _dice if criterion is Criterion.dice else partial(_cross_entropy, foreground_weight=foreground_weight)
    if grid is LossGrid.image:
        final_size = inner_size = mask.shape[1:]
    else:
        final_size = prediction.logits.shape[2:]
        inner_size = torch.Size([side // 2 for side in final_size])
    losses = {"final": (1.0, one(_at(prediction, prediction.logits, final_size), mask))}
    for name, logits in prediction.inner.items():
        losses[name] = inner_weight, one(_at(prediction, logits, inner_size), mask)
    losses |= prediction.losses
    if prediction.supervise is not None:
        further = prediction.supervise(mask, torch.zeros(len(mask), dtype=torch.int64) if class_id is None else class_id)
        for name, (weight, logits, target) in further.items():
            of_name = one if logits.shape[1] == 2 else _cross_entropy  # Dice is of two classes
            losses[name] = weight, of_name(_at(prediction, logits, target.shape[1:]), target.to(torch.uint8))
    total = torch.stack([weight * value for weight, value in losses.values()]).sum()
    return total, {name: value.detach() for name, (_, value) in losses.items()}


def _at(prediction: Prediction, logits: Tensor, size: torch.Size) -> Tensor:
    return logits if logits.shape[2:] == size else prediction.resized(size, logits)


def _target(mask: Tensor, logits: Tensor) -> Tensor:
    return interpolate(mask[:, None], logits.shape[2:], mode="nearest")[:, 0].long()


def _cross_entropy(logits: Tensor, mask: Tensor, foreground_weight: float = 1.0) -> Tensor:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weight = None if foreground_weight == 1 else logits.new_tensor([1, foreground_weight])
    return cross_entropy(logits, _target(mask, logits), weight, ignore_index=UNKNOWN)


def _dice(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - Dice of the sigmoids of background and of foreground, summed; 255 is in neither; a mean over the batch."""
    share = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
    target = _target(mask, logits)
    truth = torch.stack([target == 0, target == 1], dim=1).to(share.dtype)
    common = 2 * (share * truth).sum((2, 3))
    return (1 - common / (share.square() + truth.square()).sum((2, 3)).clamp(min=_EPS)).sum(1).mean()
