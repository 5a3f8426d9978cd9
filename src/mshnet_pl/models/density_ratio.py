"""A training-free method: is a query pixel's feature more likely on the object or beside it?"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, Masks, SupportCode, SupportFeatures
from mshnet_pl.models.layers import directions
from mshnet_pl.similarity.pixels import unit

_STEEPNESS = 2.0  # of the log-ratio's logits: matters where a filter smooths probabilities, not to labels
_LEAST = 1e-12  # below any density of unit vectors at a temperature of 0.05 or more: exp(-1 / 0.05) is 2e-9
_PHOTOS = 0.3  # of a support's weight
_MAX_KERNELS = 2**22  # held at a time: 16 MiB in float32


class DensityRatio(AbstractMethod):
    """Calls a query pixel foreground where the density of the supports' object is ``min_ratio`` times that of their rest.

    This project's own. Densities are kernel estimates from the pixels of all shots together, object and rest: the mean of
    ``exp(cosine / temperature)``, the kernel of directions (von Mises and Fisher). So the nearest pixels count most, an
    object of several parts is not their mean, and a further shot adds what it shows instead of being averaged. The cosine is
    the mean of those of all maps of the deepest blocks, on the finest of their grids; a support pixel that the mask covers
    in part counts in part for both. Scores: experiments/default_network.md.

    One support shows little of what is not the object. So pixels of other photos, ``photos``, count as rest too, all
    together as much as three tenths of a support. They need no labels: an object covers little of other photos.

    Args:
        backbone: frozen.
        blocks: how many of the deepest blocks are compared.
        temperature: of the kernel; a higher one lets farther pixels count.
        min_ratio: of the densities, from which on a pixel is foreground.
        photo_pixels: how many pixels of other photos there are.

    Attributes:
        photos: their directions, (photo_pixels, d) int8, each up to a factor; a checkpoint or ``look_at`` brings them. Zeros
            count for nothing.

    Raises:
        ValueError: a number of blocks that the backbone does not have, a temperature or ratio that is not positive, or a
            negative number of pixels.
    """

    photos: Tensor

    def __init__(
        self,
        backbone: AbstractBackbone,
        blocks: int = 3,
        temperature: int | float = 0.05,
        min_ratio: int | float = 2,
        photo_pixels: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= blocks <= len(backbone.blocks):
            raise ValueError(f"blocks={blocks}: give 1 to {len(backbone.blocks)}, how many the backbone has")
        if photo_pixels < 0:
            raise ValueError(f"photo_pixels={photo_pixels}: give a number from 0")
        for name, value in {"temperature": temperature, "min_ratio": min_ratio}.items():
            if not value > 0:
                raise ValueError(f"{name}={value}: give a number above 0")
        self.backbone = backbone
        self._blocks, self._temperature, self._threshold = blocks, temperature, math.log(min_ratio)
        channels = sum(block.layers * block.channels for block in backbone.blocks[-blocks:])
        self.register_buffer("photos", torch.zeros(photo_pixels, channels, dtype=torch.int8))

    def look_at(self, features: Iterable[Features], generator: torch.Generator) -> None:
        """Draw ``photos`` from the pixels of all images whose features are given."""
        seen = torch.cat([directions(f, self._blocks).movedim(1, 3).flatten(0, 2) for f in features])
        drawn = seen[torch.randperm(len(seen), generator=generator)[: len(self.photos)]]
        self.photos[: len(drawn)] = (127 * drawn / drawn.abs().amax(1, keepdim=True)).round().to(torch.int8)

    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """(B, n, d) directions of the n pixels of all shots, and (B, n, 2) weights of each in the rest and in the object.

        Those of other photos follow.
        """
        shots = support[0].shape[:2]
        maps = directions(tuple(f.flatten(0, 1) for f in support), self._blocks)  # (B K, d, h, w)
        object_share = adaptive_avg_pool2d(support_mask, (maps.shape[2], maps.shape[3]))  # (B, K, h, w)
        share = torch.stack([1 - object_share, object_share], dim=-1).flatten(1, 3)  # (B, n, 2)
        weights = share / share.sum(1, keepdim=True).clamp(min=_LEAST)
        pixels = maps.unflatten(0, shots).movedim(2, 4).flatten(1, 3)
        if len(self.photos):
            pixels, weights = self._with_photos(pixels, weights, shots[1])
        return {"pixels": (pixels, weights.to(pixels.dtype))}

    def _with_photos(self, pixels: Tensor, weights: Tensor, shots: int) -> tuple[Tensor, Tensor]:
        """Pixels and weights with those of other photos, whose share of the rest shrinks with the number of shots."""
        known = (self.photos != 0).any(1).to(weights.dtype)
        share = _PHOTOS / (_PHOTOS + shots) * known.amax(0)
        rest = share * known / known.sum().clamp(min=1)
        weights = weights * torch.stack([1 - share, torch.ones_like(share)])
        photos = unit(self.photos.to(pixels.dtype)).expand(pixels.shape[0], -1, -1)
        further = torch.stack([rest, torch.zeros_like(rest)], dim=1).expand(pixels.shape[0], -1, -1)
        return torch.cat([pixels, photos], dim=1), torch.cat([weights, further], dim=1)

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, h, w) on the finest grid of the deepest blocks; without an object all is background."""
        pixels, weights = code["pixels"]
        maps = directions(query, self._blocks)  # (B, d, h, w)
        ratio = self._log_ratio(maps.flatten(2).transpose(1, 2), pixels, weights).unflatten(1, maps.shape[2:])
        margin = _STEEPNESS * (ratio - self._threshold)[:, None]
        return Prediction(torch.cat([-margin, margin], dim=1) / 2)

    def _log_ratio(self, query: Tensor, pixels: Tensor, weights: Tensor) -> Float[Tensor, "batch hw"]:
        """Of the sums of the weighted kernels, for some of the query's pixels at a time."""
        step = query.shape[1] if torch.compiler.is_compiling() else max(_MAX_KERNELS // pixels.shape[1], 1)
        with torch.autocast(query.device.type, enabled=False):  # the exponential wants the cosines' digits
            kernels = ((part @ pixels.mT / self._temperature).exp() @ weights for part in query.split(step, dim=1))
            return torch.cat([*kernels], dim=1).clamp(min=_LEAST).log().diff(dim=2)[:, :, 0]
