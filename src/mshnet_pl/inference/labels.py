"""From logits to labels at an image's own size."""

import math
from numbers import Real

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError

_STRIP = 1024
"""So many rows of an image are labelled at a time, which bounds the memory for large ones."""


def predict_labels(logits: Float[Tensor, "batch 2 h w"], episode: Episode) -> UInt8[Tensor, "batch height width"]:
    """Upsample logits bilinearly (aligned corners) to each query's mask and take the larger one.

    In N-way episodes a pixel belongs to one class at most: the one with the largest margin, if that is positive.

    Args:
        logits: (B, 2, h, w).
        episode: where the queries' sizes and the rows of one episode come from; its masks are not looked at.

    Returns:
        (B, H, W) of 0 and 1 at the masks' size; 0 where padded.
    """
    height, width = episode.query_mask.shape[1:]
    if bool((episode.query_size == episode.query_size.new_tensor([height, width])).all()):
        by_query = margins(logits, (height, width))
    else:
        by_query = logits.new_full((len(logits), height, width), -1, dtype=torch.float32)
        for i, (h, w) in enumerate(episode.query_size.tolist()):
            by_query[i, :h, :w] = margins(logits[i : i + 1], (h, w))[0]
    way = int((episode.number == episode.number[0]).sum())
    labels = label_map(by_query.unflatten(0, (-1, way)))[:, None]  # (B / N, 1, H, W)
    numbers = torch.arange(1, way + 1, device=labels.device)[:, None, None]
    return (labels == numbers).flatten(0, 1).to(torch.uint8)


def margins(logits: Float[Tensor, "batch 2 h w"], size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
    """Foreground minus background logit at ``size``, (H, W); upsampling is linear, so one channel is enough."""
    difference = logits[:, 1:].float() - logits[:, :1].float()
    return interpolate(difference, size, mode="bilinear", align_corners=True)[:, 0]


def without_negatives(by_class: Float[Tensor, "all h w"], way: int) -> Float[Tensor, "way h w"]:
    """Margins of the first ``way`` classes where what further ones show is background too.

    The softmax of 0 (background) and all margins, with the further ones' probability added to the background's: a margin
    loses the logarithm of ``1 + sum(exp(further))``, nothing where those are far below 0.
    """
    wanted, others = by_class[:way], by_class[way:]
    return wanted - torch.cat([torch.zeros_like(others[:1]), others]).logsumexp(0) if len(others) else wanted


def label_map(
    by_class: Float[Tensor, "*episodes way height width"], minimum: float = 0.0
) -> Int64[Tensor, "*episodes height width"]:
    """Of N classes' margins the number of the largest, 1 to N, where it exceeds ``minimum``, and 0 elsewhere."""
    if by_class.shape[-3] == 1:
        return (by_class.squeeze(-3) > minimum).long()
    largest, which = by_class.max(-3)
    return torch.where(largest > minimum, which + 1, 0)


def min_margin(threshold: float) -> float:
    """The margin at which a class's foreground probability is ``threshold``.

    Raises:
        ConfigError: no probability between 0 and 1.
    """
    if not (isinstance(threshold, Real) and 0 < threshold < 1):
        raise ConfigError(f"threshold={threshold}: give a probability between 0 and 1")
    return math.log(threshold / (1 - threshold))


def to_labels(by_class: Float[Tensor, "way height width"], threshold: float = 0.5) -> Integer[np.ndarray, "height width"]:
    """0, or the number 1 to N of the class with the largest margin, where its foreground probability exceeds ``threshold``.

    Returns:
        uint8, or uint16 for more than 255 classes.

    Raises:
        ConfigError: an impossible threshold.
    """
    kind = torch.uint8 if len(by_class) < 256 else torch.int32
    strips = [label_map(strip, min_margin(threshold)).to(kind) for strip in by_class.split(_STRIP, dim=1)]
    return torch.cat(strips).cpu().numpy().astype(np.uint8 if len(by_class) < 256 else np.uint16, copy=False)


def to_probabilities(by_class: Float[Tensor, "way height width"]) -> Float[np.ndarray, "*classes height width"]:
    """Of one class the foreground's probability, (H, W); of several the softmax of 0 (background, first) and the margins.

    Returns:
        float32, (N + 1, H, W) for N > 1 classes.
    """
    if len(by_class) == 1:
        return by_class[0].sigmoid().cpu().numpy()
    return torch.cat([torch.zeros_like(by_class[:1]), by_class]).softmax(0).cpu().numpy()
