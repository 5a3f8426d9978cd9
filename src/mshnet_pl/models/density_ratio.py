"""A training-free method: is a query pixel's feature more likely on the object or beside it?"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, SupportCode
from mshnet_pl.models.layers import directions

_STEEPNESS = 2.0  # of the log-ratio's logits: matters where a filter smooths probabilities, not to labels
_LEAST = 1e-12  # below any density of unit vectors at a temperature of 0.05 or more: exp(-1 / 0.05) is 2e-9
_MAX_KERNELS = 2**22  # held at a time: 16 MiB in float32


class DensityRatio(AbstractMethod):
    """Calls a query pixel foreground where the density of the supports' object is ``min_ratio`` times that of their rest.

    This project's own. Densities are kernel estimates from the pixels of all shots together, object and rest: the mean of
    ``exp(cosine / temperature)``, the kernel of directions (von Mises and Fisher). So the nearest pixels count most, an
    object of several parts is not their mean, and a further shot adds what it shows instead of being averaged. The cosine is
    the mean of those of all maps of the deepest blocks, on the finest of their grids; a support pixel that the mask covers
    in part counts in part for both. Scores: experiments/default_network.md.

    Args:
        backbone: frozen.
        blocks: how many of the deepest blocks are compared.
        temperature: of the kernel; a higher one lets farther pixels count.
        min_ratio: of the densities, from which on a pixel is foreground.

    Raises:
        ValueError: a number of blocks that the backbone does not have, or a temperature or ratio that is not positive.
    """

    def __init__(
        self, backbone: AbstractBackbone, blocks: int = 3, temperature: int | float = 0.05, min_ratio: int | float = 2
    ) -> None:
        super().__init__()
        if not 1 <= blocks <= len(backbone.blocks):
            raise ValueError(f"blocks={blocks}: give 1 to {len(backbone.blocks)}, how many the backbone has")
        for name, value in {"temperature": temperature, "min_ratio": min_ratio}.items():
            if not value > 0:
                raise ValueError(f"{name}={value}: give a number above 0")
        self.backbone = backbone
        self._blocks, self._temperature, self._threshold = blocks, temperature, math.log(min_ratio)

    def encode(
        self,
        support: tuple[Float[Tensor, "batch shots _ _ _ _"], ...],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> SupportCode:
        """(B, n, d) directions of the n pixels of all shots, and (B, n, 2) weights of each in the rest and in the object."""
        shots = support_mask.shape[:2]
        maps = directions(tuple(f.flatten(0, 1) for f in support), self._blocks)  # (B K, d, h, w)
        object_share = adaptive_avg_pool2d(support_mask, (maps.shape[2], maps.shape[3]))  # (B, K, h, w)
        share = torch.stack([1 - object_share, object_share], dim=-1).flatten(1, 3)  # (B, n, 2)
        weights = share / share.sum(1, keepdim=True).clamp(min=_LEAST)
        pixels = maps.unflatten(0, shots).movedim(2, 4).flatten(1, 3)
        return {"pixels": (pixels, weights.to(pixels.dtype))}

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, h, w) on the finest grid of the deepest blocks; without an object all is background."""
        pixels, weights = code["pixels"]
        maps = directions(query, self._blocks)  # (B, d, h, w)
        with torch.autocast(maps.device.type, enabled=False):  # the exponential wants the cosines' digits
            densities = self._densities(maps.flatten(2).transpose(1, 2), pixels, weights)  # (B, hw, 2)
            ratio = (densities + _LEAST).log().diff(dim=2)[:, :, 0].unflatten(1, maps.shape[2:])
        margin = _STEEPNESS * (ratio - self._threshold)[:, None]
        return Prediction(torch.cat([-margin, margin], dim=1) / 2)

    def _densities(self, query: Tensor, pixels: Tensor, weights: Tensor) -> Float[Tensor, "batch hw 2"]:
        """Sums of the weighted kernels, for some of the query's pixels at a time."""
        step = query.shape[1] if torch.compiler.is_compiling() else max(_MAX_KERNELS // pixels.shape[1], 1)
        kernels = ((part @ pixels.mT / self._temperature).exp() @ weights for part in query.split(step, dim=1))
        return torch.cat([*kernels], dim=1)
