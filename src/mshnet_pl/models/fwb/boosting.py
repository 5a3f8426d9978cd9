"""FWB's boosting: a class vector is refined on the supports, and every step leaves an expert."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from mshnet_pl.models.layers import resize


def boost(
    segment: Callable[[Tensor, Tensor, Tensor], Tensor],
    deep: Float[Tensor, "batch shots d h w"],
    low: Float[Tensor, "batch shots c h2 w2"],
    mask: Float[Tensor, "batch shots height width"],
    relevance: Float[Tensor, "batch d"],
    vector: Float[Tensor, "batch d"],
    experts: int,
    rate: float,
) -> tuple[Float[Tensor, "batch experts d"], Float[Tensor, "batch experts"]]:
    """Experts, and the mean IoU that each reached on the supports: the weight of its vote.

    The vector alone learns, by Adam, the cross-entropy of the supports as their own queries, summed over shots.

    Args:
        segment: from (features, finest map, vector) to logits.
        deep: features of the supports.
        low: their finest maps.
        mask: 1 on the object.
        relevance: of the features' channels.
        vector: where to start, not yet weighted.
        experts: how many.
        rate: of Adam.
    """
    shots = mask.shape[1]
    with torch.inference_mode(False), torch.enable_grad():  # whatever a test has switched off
        weighted = (deep * relevance[:, None, :, None, None]).flatten(0, 1).clone()
        maps, truth = low.flatten(0, 1).clone(), (mask == 1).flatten(0, 1).clone()
        current = (relevance * vector).clone().requires_grad_()
        adam = torch.optim.Adam([current], lr=rate)
        vectors, weights = [], []
        for _ in range(experts):
            vectors.append(current.detach().clone())
            logits = resize(segment(weighted, maps, current.repeat_interleave(shots, dim=0)), truth.shape[1:])
            found = logits[:, 1] > logits[:, 0]
            common, either = (found & truth).sum((1, 2)), (found | truth).sum((1, 2))
            overlap = common.to(deep.dtype) / either.clamp(min=1)
            weights.append(overlap.unflatten(0, (-1, shots)).mean(1))
            losses = cross_entropy(
                logits.to(torch.promote_types(logits.dtype, torch.float32)), truth.long(), reduction="none"
            )
            (current.grad,) = torch.autograd.grad(losses.mean((1, 2)).sum(), current)
            adam.step()
    return torch.stack(vectors, dim=1), torch.stack(weights, dim=1)
