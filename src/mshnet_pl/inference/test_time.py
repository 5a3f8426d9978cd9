"""Predictions refined at test time: averaged over mirrored and resized views and over shots, led by the query's colours."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from mshnet_pl.episode import Prediction
from mshnet_pl.inference.guided_filter import guided_logits
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.layers import resize
from mshnet_pl.options import Fusion


class Refinement:
    """Calls a method on views of an episode and merges what it predicts.

    A view is the episode at one scale, mirrored or not: query and supports together, images resized bilinearly and masks to
    the nearest pixel. A view's logits are mirrored back and resized to the query's size S x S, where all views are averaged.

    With ``mean`` or ``vote`` each shot predicts alone, averaged over views; then the shots' logits are averaged, or each
    votes at every pixel of the S x S query: votes for the foreground are summed and divided by their maximum over the query
    (at least 1), and the foreground is where that exceeds 0.5 (Min et al., ICCV 2021).

    Last, with ``guided``, the foreground's probability is smoothed along the query's colours (``guided_filter``): the
    network predicts on a coarse grid, whose outlines are not the object's.

    Args:
        flip: also predict the mirrored episode.
        scales: factors of the image size.
        fusion: how the supports become one prediction.
        guided: radius of the guided filter's windows as a share of the query's side; 0 for no filter.

    Raises:
        ValueError: no scale, or one that is not positive; a radius that is not from 0 to 0.5.
    """

    def __init__(
        self,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        fusion: Fusion = Fusion.network,
        guided: float = 0.0,
    ) -> None:
        if not scales or not all(0 < scale < float("inf") for scale in scales):
            raise ValueError(f"eval.scales={[*scales]}: give one or more positive numbers")
        if not 0 <= guided <= 0.5:
            raise ValueError(f"eval.guided={guided}: give 0 for no filter, or a share of the side up to 0.5")
        self._flips = (False, True) if flip else (False,)
        self._scales, self._fusion, self._guided = tuple(scales), fusion, guided
        self.looks_again = flip or self._scales != (1.0,) or fusion is not Fusion.network
        """Whether the method is called in another way than plainly, for which kept features do not serve."""
        self.guides = guided > 0
        """Whether the query's image is needed after the prediction."""
        self.changes = self.looks_again or self.guides
        """Whether any of the settings is other than plain."""

    def __call__(
        self,
        method: AbstractMethod,
        query: Float[Tensor, "batch 3 height width"],
        support: Float[Tensor, "batch shots 3 height width"],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> Prediction:
        """What ``method`` predicts, refined.

        Returns:
            Logits (B, 2, S, S), after a vote without a filter 0.5 and the share of the votes.
        """
        shots = torch.stack([*self._views(method, query, support, support_mask)]).mean(0)  # (1 or K, B, 2, S, S)
        return self.guide(Prediction(_vote(shots) if self._fusion is Fusion.vote else shots.mean(0)), query)

    def guide(self, prediction: Prediction, query: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """The last step alone: logits (B, 2, h, w) to (B, 2, S, S), or the prediction itself where there is no filter."""
        return Prediction(guided_logits(prediction.logits, query, self._guided)) if self.guides else prediction

    def _views(self, method: AbstractMethod, query: Tensor, support: Tensor, mask: Tensor) -> Iterator[Tensor]:
        """Every view's logits (K, B, 2, S, S) of each shot alone; (1, B, 2, S, S) where the method takes them together."""
        size, shots = query.shape[2:], support.shape[1]
        groups = [slice(None)] if self._fusion is Fusion.network else [slice(i, i + 1) for i in range(shots)]
        for scale in self._scales:
            scaled = [round(scale * side) for side in size]
            images = resize(torch.cat([query[:, None], support], dim=1).flatten(0, 1), scaled).unflatten(0, (-1, 1 + shots))
            masks = interpolate(mask, (scaled[0], scaled[1]), mode="nearest")
            for flip in self._flips:
                view, objects = (images.flip(-1), masks.flip(-1)) if flip else (images, masks)
                of_query, of_support = method.features(view[:, 0], view[:, 1:])
                codes = [method.encode(tuple(f[:, group] for f in of_support), objects[:, group]) for group in groups]
                logits = [method.decode(of_query, code).logits.float() for code in codes]
                yield torch.stack([resize(one.flip(-1) if flip else one, size) for one in logits])


def _vote(logits: Float[Tensor, "shots batch 2 height width"]) -> Float[Tensor, "batch 2 height width"]:
    """0.5 for the background, and for the foreground its share of the most votes that a pixel of the query got."""
    votes = (logits[:, :, 1] > logits[:, :, 0]).sum(0).float()  # (B, H, W)
    share = votes / votes.amax((1, 2), keepdim=True).clamp(min=1)
    return torch.stack([torch.full_like(share, 0.5), share], dim=1)
