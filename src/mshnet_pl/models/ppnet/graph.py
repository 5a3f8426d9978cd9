"""PPNet's graph over unlabelled images: superpixels that resemble a region refine its parts."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate


class LatentGraph(nn.Module):
    """Mixes a region's parts with what they attend to among the superpixels that are most like the region.

    Args:
        channels: of the features.
        keep: of a part in every mixture.
        threshold: cosine with the region's mean that a superpixel must exceed.
        most: superpixels of an image.
        group: images that are attended to at once.
        width: channels in which superpixels and parts are compared.
    """

    def __init__(
        self, channels: int, keep: float = 0.8, threshold: float = 0.5, most: int = 30, group: int = 2, width: int = 512
    ) -> None:
        super().__init__()
        self.keep, self.threshold, self.most, self.group, self.width = keep, threshold, most, group, width
        self.within, self.pixels, self.parts = (nn.Linear(channels, width, bias=False) for _ in range(3))
        self.change = nn.Linear(channels, channels, bias=False)

    def forward(
        self,
        parts: Float[Tensor, "parts channels"],
        mean: Float[Tensor, "channels"],
        superpixels: Sequence[Float[Tensor, "_ channels"]],
    ) -> Float[Tensor, "parts channels"]:
        """A region's parts, refined.

        Args:
            parts: of the region.
            mean: of the region.
            superpixels: of every unlabelled image.
        """
        kept = [self._alike(image, mean) for image in superpixels]
        for start in range(0, len(kept), self.group):
            x = torch.cat([self._exchanged(image) for image in kept[start : start + self.group]])
            seen = 0 * mean
            if len(x):
                seen = (self.parts(parts) @ self.pixels(x).T / math.sqrt(self.width)).softmax(1) @ x
            parts = self.keep * parts + (1 - self.keep) * seen
        return parts

    def _alike(self, image: Float[Tensor, "n channels"], mean: Tensor) -> Float[Tensor, "_ channels"]:
        cosines, order = cosine_similarity(image, mean[None], dim=1).topk(min(self.most, len(image)))
        return image[order[cosines > self.threshold]]

    def _exchanged(self, x: Float[Tensor, "n channels"]) -> Float[Tensor, "n channels"]:
        if len(x) < 2:
            return x
        seen = self.within(x)
        shares = (seen @ seen.T / math.sqrt(self.width)).softmax(1)
        return x + self.change(shares @ x).relu()


def superpixel_means(
    features: Float[Tensor, "channels h w"], ids: Shaped[Tensor, "height width"]
) -> Float[Tensor, "n channels"]:
    """The mean of every superpixel that is left on the features' grid, by ascending number."""
    small = interpolate(ids[None, None].to(features.dtype), features.shape[1:], mode="nearest").flatten()
    members = (small == small.unique()[:, None]).to(features.dtype)  # (n, h w)
    return members @ features.flatten(1).T / members.sum(1, keepdim=True)
