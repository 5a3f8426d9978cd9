"""Cosine similarity to the selected support pixels (CS, eq. 5)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from mshnet_pl.similarity.base import AbstractSimilarity
from mshnet_pl.similarity.masks import ObjectMask

_EPS = 1e-5
_MOST_ELEMENTS = 2**22
"""Cosines held at a time: 16 MiB in float32, which a processor's cache may hold."""


class CosineSimilarity(AbstractSimilarity):
    """Mean over the selected support pixels of ``ReLU(cosine)``, for every query pixel.

    Norms have 1e-5 added, so a zero feature (an empty mask's) has similarity 0. Time grows with the number of selected
    pixels; the cosines themselves are never held for more than a bounded number of pixels at a time.

    Args:
        channels: width d of the block's maps (unused: the similarity has no parameters).
        centred: take the picture's mean feature from every feature first, the query's from the query's and each support's
            from its own. Not the paper's: what all of a picture's pixels share says nothing about which of them are alike,
            and before a block's last ReLU it is most of a feature (experiments/improved.md).
    """

    wide = True
    atrous = False

    def __init__(self, channels: int, centred: bool = False) -> None:
        super().__init__()
        self._centred = centred

    def encode(
        self, support: Float[Tensor, "batch shots layers channels height width"], objects: ObjectMask
    ) -> tuple[Tensor, ...]:
        """Gather each shot's selected pixels, padded to the largest number m in the batch.

        The shapes of an exported graph cannot follow from a mask's values: it keeps all pixels, the others as zeros.

        Returns:
            (B, L, K, m, d) unit vectors, zero where padded, and (B, K) numbers of selected pixels, at least 1.
        """
        support = self._from_mean(support)
        pixels = support.permute(0, 2, 1, 4, 5, 3).flatten(3, 4)  # (B, L, K, hw, d)
        weight = objects.weight.flatten(2).to(pixels.dtype)  # (B, K, hw)
        if torch.compiler.is_compiling():
            return _unit(pixels * weight[:, None, ..., None]), objects.size.clamp(min=1)
        most = max(int(objects.size.max()), 1)
        weight, index = weight.topk(most, dim=2, sorted=False)  # (B, K, m): all selected ones, as their weight is > 0
        batch, layers, shots, _, channels = pixels.shape
        selected = pixels.new_empty(batch, layers, shots, most, channels)
        for b in range(batch):
            for k in range(shots):
                selected[b, :, k] = _unit(pixels[b, :, k].index_select(1, index[b, k]) * weight[b, k, :, None])
        return selected, objects.size.clamp(min=1)

    def compare(
        self, query: Float[Tensor, "batch layers channels height width"], code: tuple[Tensor, ...]
    ) -> Float[Tensor, "batch shots layers height width"]:
        """See the class."""
        pixels, count = code
        total = positive_cosines(self._from_mean(query), pixels)
        return (total / count[:, None, :, None, None]).transpose(1, 2)

    def _from_mean(self, features: Tensor) -> Tensor:
        """(..., h, w) features as they are, or if ``centred`` less their mean over the picture."""
        if not self._centred:
            return features
        mean = features.mean((-2, -1), keepdim=True, dtype=torch.promote_types(features.dtype, torch.float32))
        return (features - mean).to(features.dtype)


def positive_cosines(query: Tensor, pixels: Tensor, largest: bool = False) -> Tensor:
    """Sums (B, L, K, h, w) of ``ReLU(cosine)`` of query pixels (B, L, d, h, w) with each shot's unit ones, (B, L, K, m, d).

    Query pixels are divided by their norm last: ReLU commutes with a positive factor.

    Args:
        query: features.
        pixels: unit vectors, and zeros.
        largest: the largest one of every query pixel instead of their sum.
    """
    precise = torch.promote_types(query.dtype, torch.float32)
    if torch.compiler.is_compiling():  # a graph cannot loop over shots of any number
        norm = torch.linalg.vector_norm(query, dim=2, dtype=precise) + _EPS
        cosines = (pixels @ query.flatten(3)[:, :, None]).relu()
        return (cosines.amax(3) if largest else cosines.sum(3)).unflatten(3, query.shape[3:]) / norm[:, :, None]
    batch, layers, _, *grid = query.shape
    total = query.new_zeros(batch, layers, pixels.shape[2], *grid, dtype=precise)
    step = max(_MOST_ELEMENTS // math.prod(grid), 1)
    for b in range(batch):
        for layer in range(layers):
            one = query[b : b + 1, layer]
            for shot in range(pixels.shape[2]):
                so_far = total[b, layer, shot]
                for part in pixels[min(b, len(pixels) - 1), layer, shot].split(step):  # (m, d)
                    products = _products(one, part)
                    if largest:
                        so_far.copy_(torch.maximum(so_far, products.amax(0)))
                    else:
                        so_far += products.relu_().sum(0, dtype=precise)
            total[b, layer] /= torch.linalg.vector_norm(one, dim=1, dtype=precise) + _EPS
    return total


def _products(query: Tensor, pixels: Tensor) -> Tensor:
    """(m, h, w) inner products of (1, d, h, w) with (m, d), as a 1 x 1 convolution: the quickest product on a CPU."""
    return conv2d(query, pixels[..., None, None])[0]


def _unit(x: Tensor) -> Tensor:
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + _EPS)
