"""The object's pixels, and the sums of their cosines with a query's: a bounded part of them is held at a time."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from mshnet_pl.similarity.masks import ObjectMask
from mshnet_pl.utils.relu import relu

_EPS = 1e-5
_MAX_COSINES = 2**22
"""Held at a time on a CPU: 16 MiB in float32, which its cache may hold."""
_MAX_AT_ONCE = 2**28
"""Held at a time elsewhere: 1 GiB in float32."""


def unit(x: Tensor, dim: int = -1) -> Tensor:
    """``x`` divided by its norm along ``dim``, to which 1e-5 is added: a zero vector stays zero."""
    return x / (torch.linalg.vector_norm(x, dim=dim, keepdim=True) + _EPS)


def unit_pixels(
    support: Float[Tensor, "batch shots layers channels height width"], objects: ObjectMask
) -> Float[Tensor, "batch layers shots m channels"]:
    """Each shot's selected pixels as unit vectors, padded with zeros to the largest number m in the batch.

    The shapes of an exported graph cannot follow from a mask's values: it keeps all pixels, the others as zeros.
    """
    pixels = support.permute(0, 2, 1, 4, 5, 3).flatten(3, 4)  # (B, L, K, hw, d)
    weight = objects.weight.flatten(2).to(pixels.dtype)  # (B, K, hw)
    if torch.compiler.is_compiling():
        return unit(pixels * weight[:, None, ..., None])
    m = max(int(objects.size.max()), 1)
    weight, index = weight.topk(m, dim=2, sorted=False)  # (B, K, m): all selected ones, as their weight is > 0
    if pixels.device.type != "cpu":
        batch, layers, shots, _, channels = pixels.shape
        index = index[:, None, :, :, None].expand(batch, layers, shots, m, channels)
        return unit(pixels.gather(3, index) * weight[:, None, ..., None])
    return _gathered(pixels, index, weight)


def _gathered(pixels: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Shot by shot, whole pixels at a time: the quickest way on a CPU."""
    batch, layers, shots, _, channels = pixels.shape
    selected = pixels.new_empty(batch, layers, shots, index.shape[2], channels)
    for b in range(batch):
        for k in range(shots):
            selected[b, :, k] = unit(pixels[b, :, k].index_select(1, index[b, k]) * weight[b, k, :, None])
    return selected


def positive_cosines(
    query: Float[Tensor, "batch layers channels height width"], pixels: Float[Tensor, "_ layers shots m channels"]
) -> Float[Tensor, "batch layers shots height width"]:
    """Sums of ``ReLU(cosine)`` of every query pixel with each shot's pixels.

    Query pixels are divided by their norm last: ReLU commutes with a positive factor.

    Args:
        query: features.
        pixels: unit vectors, and zeros; of batch B, or of batch 1 that serves all queries.
    """
    if query.device.type == "cpu" and not torch.compiler.is_compiling():
        return _one_by_one(query, pixels)
    precise = torch.promote_types(query.dtype, torch.float32)
    norm = torch.linalg.vector_norm(query, dim=2, dtype=precise) + _EPS  # (B, L, h, w)
    if torch.compiler.is_compiling():  # a graph cannot loop over pixels of any number
        cosines = (pixels @ query.flatten(3)[:, :, None]).relu()
        return cosines.sum(3).unflatten(3, query.shape[3:]) / norm[:, :, None]
    parts = pixels.split(_step(query, pixels), dim=3)
    total, *more = (_sums(query.flatten(3), part, precise) for part in parts)  # (B, L, K, hw) each
    for part in more:
        total += part
    return total.unflatten(3, query.shape[3:]) / norm[:, :, None]


def _step(query: Tensor, pixels: Tensor) -> int:
    """How many pixels of every shot may be compared at once."""
    return max(_MAX_AT_ONCE // (query[:, :, 0].numel() * pixels.shape[2]), 1)


def _sums(query: Tensor, pixels: Tensor, precise: torch.dtype) -> Tensor:
    """Of (B, L, d, hw) with all layers and shots, (B, L, K, m, d), in one batched product."""
    cosines = (pixels.flatten(2, 3) @ query).relu_()  # (B, L, K m, hw)
    return cosines.unflatten(2, pixels.shape[2:4]).sum(3, dtype=precise)


def _one_by_one(query: Tensor, pixels: Tensor) -> Tensor:
    """``positive_cosines`` in blocks that a processor's cache may hold, as 1 x 1 convolutions: the quickest on a CPU.

    Norms are summed in float32 and rounded to the features' dtype, as sums of a block are.
    """
    precise = torch.promote_types(query.dtype, torch.float32)
    batch, layers, _, *grid = query.shape
    total = query.new_zeros(batch, layers, pixels.shape[2], *grid, dtype=precise)
    step = max(_MAX_COSINES // math.prod(grid), 1)
    for b in range(batch):
        for layer in range(layers):
            one = query[b : b + 1, layer]  # (1, d, h, w)
            for shot in range(pixels.shape[2]):
                for part in pixels[min(b, len(pixels) - 1), layer, shot].split(step):  # (m, d)
                    total[b, layer, shot] += relu(conv2d(one, part[..., None, None])[0], inplace=True).sum(0)
            total[b, layer] /= torch.linalg.vector_norm(one, dim=1).to(precise) + _EPS
    return total
