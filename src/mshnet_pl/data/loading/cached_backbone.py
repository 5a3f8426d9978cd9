"""A backbone whose features are looked up before they are computed."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mshnet_pl.data.loading.feature_cache import FeatureCache, FeatureMemory, Features, join, pixels


class CachedBackbone:
    """A backbone that gives the features of images by id, and computes only those that are not kept.

    No part of the network: it holds no weights, and no checkpoint knows of it.

    Args:
        backbone: gives the features of images, each the same whatever else is in the batch.
    """

    def __init__(self, backbone: Callable[[Tensor], Features]) -> None:
        self._backbone = backbone
        self._cache: FeatureCache | None = None
        self._read: Callable[[int], Tensor] | None = None
        self._parts: FeatureMemory | None = None

    @property
    def keeps(self) -> bool:
        """Whether any features are kept."""
        return self._cache is not None

    def use(
        self,
        cache: FeatureCache | None,
        read: Callable[[int], Tensor] | None = None,
        parts: FeatureMemory | None = None,
    ) -> None:
        """Take features from ``cache``, or from none.

        Args:
            cache: what is kept.
            read: gives the image (1, 3, S, S) of an id whose features are damaged.
            parts: where those of parts of images are kept as they come.
        """
        self._cache, self._read, self._parts = cache, read, parts

    def __call__(self, images: Float[Tensor, "n 3 h w"], ids: Int64[Tensor, "n"] | None = None) -> Features:
        """Features of ``images``, on their device; images whose features are kept are not looked at.

        Args:
            images: normalised.
            ids: of the images; without them all features are computed.
        """
        cache = self._cache
        kept = torch.tensor([cache is not None and i in cache for i in ids.tolist()]) if ids is not None else None
        if cache is None or ids is None or kept is None or not kept.any():
            return self._backbone(images)

        def compute(image_id: int) -> Features:
            assert self._read is not None
            with torch.no_grad():
                return self._backbone(self._read(image_id).to(images.device))

        found = tuple(f.to(images.device) for f in cache.get(ids[kept.to(ids.device)].tolist(), compute))
        if kept.all():
            return found
        computed = self._backbone(images[~kept.to(images.device)])
        order = torch.cat([kept.nonzero()[:, 0], (~kept).nonzero()[:, 0]]).argsort().to(images.device)
        return tuple(pixels(f)[order].permute(0, 1, 4, 2, 3) for f in join([found, computed]))

    def of_parts(self, images: Float[Tensor, "n 3 h w"], numbers: Sequence[int]) -> Features:
        """Features of parts of images, which are kept from then on as far as there is room.

        Args:
            images: the parts, normalised.
            numbers: of them, the same for the same part of the same image alone.
        """
        memory = self._parts
        if memory is None:
            return self._backbone(images)
        for number in memory.absent(numbers):
            memory.put(number, self._backbone(images[numbers.index(number), None]))
        return join(
            [
                memory.get([number]) if number in memory else self._backbone(image[None])
                for number, image in zip(numbers, images, strict=True)
            ]
        )
